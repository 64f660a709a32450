//! What is counted and measured, and how it is told: `/metrics` and `/debug/vars`.

pub(crate) mod debug_vars;
pub(crate) mod exposition;
pub(crate) mod metrics;
