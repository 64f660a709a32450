//! Each part of a node that can be replaced: by what ships, and by a program's own. A part that does not do what is expected of
//! it is found by the test for all of its kind.

mod callers;
mod clock;
mod handles;
mod runtime;
mod storage;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a check says of a broken part, if it finds anything.
fn found(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
}

/// Tries a check on each broken part, all at once: what finds that something never comes waits for it.
fn each_is_found<F: Copy + std::fmt::Debug + Send + 'static>(rows: &[(F, &'static str)], check: fn(F)) {
    let row = |&(fault, rule): &(F, &'static str)| {
        let tried = std::thread::spawn(move || found(|| check(fault)));
        (fault, rule, tried)
    };
    let tried: Vec<_> = rows.iter().map(row).collect();
    for (fault, rule, tried) in tried {
        let said = tried.join().unwrap();
        assert!(said.as_ref().is_some_and(|said| said.contains(rule)), "{fault:?}: {said:?}");
    }
}

/// A tokio runtime with one thread, with I/O and time.
fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
