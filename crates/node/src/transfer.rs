//! How a snapshot gets from one node to another.

/// A step of a snapshot's way between nodes.
#[derive(Debug)]
pub enum TransferAct {}

/// A step of a snapshot's way between nodes is done.
#[derive(Debug)]
pub enum TransferInput {}
