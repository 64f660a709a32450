//! The name of a proposal.

/// Names a proposal: its origin, and which of the origin's it is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProposalId {
    /// A number drawn by the process that made it; another one each time a process starts.
    pub origin: u64,
    /// Rises with each proposal of the process.
    pub sequence: u64,
}
