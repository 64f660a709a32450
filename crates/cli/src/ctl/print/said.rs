//! What endpoints have said about themselves.

use std::time::Duration;

/// How one endpoint is.
pub struct Health {
    pub endpoint: String,
    /// The time of one read that went through consensus.
    pub took: Duration,
    /// Empty if it is healthy.
    pub error: String,
}

/// What one endpoint said.
pub struct Said<Reply> {
    pub endpoint: String,
    pub reply: Reply,
}
