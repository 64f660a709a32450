//! Every state that a small group of real replicas can come to.

pub mod atlas;
pub mod cards;
pub mod checks;
pub mod disk;
pub mod explorer;
pub mod kept;
pub mod mail;
pub mod names;
pub mod node;
pub mod place;
pub mod rules;
pub mod search;
pub mod shown;
pub mod symmetry;

use vlot_raft::invariants::Violation;

/// A property that does not hold, and the values that show it.
#[derive(Clone, Debug)]
pub struct Broken {
    pub property: &'static str,
    pub shown_by: String,
}

pub fn broken<T>(property: &'static str, shown_by: impl FnOnce() -> String) -> Result<T, Broken> {
    Err(Broken { property, shown_by: shown_by() })
}

pub fn require(property: &'static str, holds: bool, shown_by: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { broken(property, shown_by) }
}

pub fn held(checked: Result<(), Violation>) -> Result<(), Broken> {
    checked.map_err(|Violation { property, shown_by }| Broken { property, shown_by })
}
