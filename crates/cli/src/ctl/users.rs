//! The commands on who may do what.

pub mod auth;
pub mod role;
pub mod user;
