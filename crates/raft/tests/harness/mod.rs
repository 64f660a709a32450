//! A cluster of real replicas under virtual time: the network, the disks and the crashes are the test's to decide.
//!
//! Owns everything that a host and its surroundings do, and checks every property that can be checked after every
//! step. Must not know what a replica should do: it only carries out effects and holds them against the paper.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod cluster;
pub mod dice;
pub mod disk;
pub mod host;
pub mod journal;
pub mod ledger;
pub mod lone;
pub mod network;
pub mod notation;
pub mod schedule;
pub mod script;
