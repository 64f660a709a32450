//! Which of the threads that serve connections this one is.
//!
//! Known to the thread itself, so that what is made for each of them is found without being handed through every call.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// This thread's number. It is zero for the first, which is the node's own, and for all threads that serve no connections.
pub(crate) fn number() -> usize {
    NUMBER.get()
}

/// Gives this thread its number.
pub(crate) fn become_number(number: usize) {
    NUMBER.set(number);
}
