//! What a node has in files beside its log and its store: the mark of the data directory, and snapshots that clients saved.

pub(crate) mod backup;
pub(crate) mod data_dir;
pub(crate) mod recover;
pub(crate) mod restore;
