//! The commands on users, roles and permissions.

pub mod auth;
pub mod role;
pub mod user;
