//! What a node does by its own rules, whoever calls: compacts, compares its data with the others', watches its space.

pub(crate) mod compaction;
pub(crate) mod corruption;
pub(crate) mod history_hashes;
pub(crate) mod space;
