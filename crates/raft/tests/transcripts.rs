//! Situations, recorded: every file of `scripts/` must give again what a person has read and found right.
//!
//! With `VLOT_BLESS=1` the recorded parts are written anew, to be read before they are committed.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::script;

#[test]
fn every_script_gives_what_was_recorded() {
    let bless = std::env::var_os("VLOT_BLESS").is_some();
    let mut differing = Vec::new();
    for path in scripts() {
        let recorded = fs::read_to_string(&path).expect("a script is text");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let found = std::panic::catch_unwind(|| script::run(&recorded));
        match found {
            Err(_) => differing.push(format!("{name} failed; what broke is told above")),
            Ok(found) if found == recorded => {}
            Ok(found) if bless => fs::write(&path, found).expect("scripts can be written"),
            Ok(found) => differing.push(format!("{name}\n{}", difference(&recorded, &found))),
        }
    }
    assert!(differing.is_empty(), "{}\n(VLOT_BLESS=1 records anew)", differing.join("\n\n"));
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let files = fs::read_dir(folder).expect("the folder of scripts").map(|file| file.expect("a file").path());
    let mut scripts: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "txt")).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there are scripts");
    scripts
}

/// The lines in which two texts differ, with their surroundings: `-` was recorded, `+` was found.
fn difference(recorded: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), found.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let most = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count().min(most);
    let mut lines = Vec::new();
    let around = 3;
    lines.extend(old[before.saturating_sub(around)..before].iter().map(|line| format!("  {line}")));
    lines.extend(old[before..old.len() - after].iter().map(|line| format!("- {line}")));
    lines.extend(new[before..new.len() - after].iter().map(|line| format!("+ {line}")));
    let rest = &old[old.len() - after..];
    lines.extend(rest.iter().take(around).map(|line| format!("  {line}")));
    lines.join("\n")
}

#[test]
fn a_difference_shows_what_changed() {
    let shown = difference("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nX\nY\ne\nf\n");
    assert_eq!(shown, "  a\n  b\n  c\n- d\n+ X\n+ Y\n  e\n  f");
}
