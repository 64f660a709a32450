//! The state machines that the program `vlot-sim` puts to the test, by name.

pub mod leases;
pub mod registers;
pub mod sessions;
pub mod store;
pub mod users;

use std::fmt;

use crate::conditions::Options;
use crate::world::{self, Outcome};
use leases::LeasesUsed;
use registers::RegistersUsed;
use sessions::SessionsUsed;
use store::used::StoreUsed;
use users::UsersUsed;

/// Which state machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// A few registers that can be put, swapped and read.
    #[default]
    Registers,
    /// etcd's store, as it ships, with its transactions, compactions and watches.
    Store,
    /// The leases of etcd's store, with the clocks of its members.
    Leases,
    /// The users and roles of etcd's store, beside a plain model of them.
    Users,
    /// A typed state, whose calls are made in sessions, again and again.
    Sessions,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Registers, Self::Store, Self::Leases, Self::Users, Self::Sessions];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Store => "store",
            Self::Leases => "leases",
            Self::Users => "users",
            Self::Sessions => "sessions",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn of_name(name: &str) -> Result<Self, UnknownMachine> {
        let found = Self::ALL.iter().copied().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownMachine { name: name.to_owned() })
    }

    /// Runs the world of a seed with it.
    #[must_use]
    pub fn run(self, seed: u64, options: &Options) -> Outcome {
        match self {
            Self::Registers => world::run_with::<RegistersUsed>(seed, options),
            Self::Store => world::run_with::<StoreUsed>(seed, options),
            Self::Leases => world::run_with::<LeasesUsed>(seed, options),
            Self::Users => world::run_with::<UsersUsed>(seed, options),
            Self::Sessions => world::run_with::<SessionsUsed>(seed, options),
        }
    }
}

/// A name that is no state machine's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownMachine {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no state machine {:?}", self.name)
    }
}

impl std::error::Error for UnknownMachine {}
