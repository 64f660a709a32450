//! The rules of a node, each by its inputs and acts alone.

mod applying;
mod beginning;
mod closing;
mod harness;
mod logs;
mod peers;
mod proposals;
mod reports;
mod sleep;
mod time;
mod turns;
