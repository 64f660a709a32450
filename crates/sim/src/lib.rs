//! Whole clusters under virtual time, with faults, from a seed.
//!
//! A run is a function of its seed: [`world::run`] builds a cluster of nodes out of the library's own layers, the
//! real log on simulated disks, a network and clients, lets faults strike for a while, heals everything, and watches
//! that nothing which must hold was ever broken. The same seed gives the same run, byte for byte.
//!
//! ```
//! use vlot_sim::conditions::Options;
//! use vlot_sim::world;
//!
//! let outcome = world::run(7, &Options { seconds: 5, ..Options::default() });
//! assert_eq!(outcome.violation, None);
//! assert!(outcome.sums.operations > 0);
//! ```

pub mod agenda;
pub mod checks;
pub mod churn;
pub mod conditions;
pub mod disk;
pub mod fault_kind;
pub mod faults;
pub mod host;
pub mod machines;
pub mod network;
pub mod place;
pub mod rng;
pub mod subject;
pub mod transcript;
pub mod workload;
pub mod world;
