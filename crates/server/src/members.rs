//! Which cluster this node belongs to, as which member, and what members ask each other beside the peers' protocol.
//!
//! Owns identities, how a node joins and learns that it was removed, and the pages on the peer port. How members come and go is
//! decided by consensus; here it is asked for and told.

pub(crate) mod ask;
pub(crate) mod fuzzing;
pub(crate) mod identity;
pub(crate) mod join;
pub(crate) mod member;
pub(crate) mod peer_pages;
pub(crate) mod removal;
