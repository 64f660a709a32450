//! A typed state in the simulator: accounts, as a program gives them to the library, what clients do with them, and that no
//! money comes or goes. `cargo run --release -p vlot-sim --example accounts` runs a hundred worlds of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use vlot_node::typed::Typed;
use vlot_node::typed::by_serde::SerdeState;
use vlot_node::typed::call::Call;
use vlot_node::typed::state::Context;
use vlot_raft::invariants::Violation;
use vlot_sim::conditions::{Conditions, Options};
use vlot_sim::rng::Rng;
use vlot_sim::subject::{End, OpId, OperationOf, Request, Subject};
use vlot_sim::world;

const ACCOUNTS: u64 = 5;
const EACH: u64 = 100;

/// What is in each account.
#[derive(Clone, Debug, Deserialize, Hash, Serialize)]
struct Accounts(BTreeMap<u64, u64>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Transfer {
    from: u64,
    to: u64,
    amount: u64,
}

impl SerdeState for Accounts {
    type Command = Transfer;
    /// Whether there was enough.
    type Reply = bool;

    fn apply(&mut self, _: &Context, Transfer { from, to, amount }: Transfer) -> bool {
        let left = self.0.get(&from).and_then(|there| there.checked_sub(amount));
        if let Some(left) = left {
            self.0.insert(from, left);
            *self.0.entry(to).or_default() += amount;
        }
        left.is_some()
    }
}

/// The clients: half of them transfer, half of them add everything up.
struct AccountsUsed;

impl Subject for AccountsUsed {
    type Machine = Typed<Accounts>;
    type Query = ();
    type Answer = u64;

    fn new(_: &Conditions, _: &mut Rng) -> Self {
        Self
    }

    fn machine(&self) -> Typed<Accounts> {
        Typed::new(Accounts((0..ACCOUNTS).map(|account| (account, EACH)).collect()))
    }

    fn next(&mut self, _: OpId, rng: &mut Rng) -> Request<Call<Accounts>, ()> {
        if rng.coin() {
            return Request::Read(());
        }
        let command = Transfer { from: rng.below(ACCOUNTS), to: rng.below(ACCOUNTS), amount: rng.below(EACH) };
        Request::Propose(Call::Apply { id: None, unsettled: 0, version: 1, command })
    }

    fn read(accounts: &Typed<Accounts>, (): &()) -> u64 {
        accounts.0.values().sum()
    }

    fn digest(accounts: &Typed<Accounts>) -> u64 {
        let mut hasher = DefaultHasher::new();
        Accounts::hash(accounts, &mut hasher);
        hasher.finish()
    }

    fn time(accounts: &Typed<Accounts>) -> Option<std::time::Duration> {
        Some(accounts.sessions().time())
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        for operation in history {
            if let Some((at, End::Answered(sum))) = operation.ended
                && sum != ACCOUNTS * EACH
            {
                return Err(Violation { property: "No Money Comes Or Goes", shown_by: format!("{sum} at {at}") });
            }
        }
        Ok(())
    }
}

/// Runs the worlds of these seeds. The first that fails is told, with the end of its transcript.
fn run(seeds: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let mut operations = 0;
    for seed in seeds {
        let outcome = world::run_with::<AccountsUsed>(seed, &Options { seconds: 10, ..Options::default() });
        if let Some(Violation { property, shown_by }) = outcome.violation {
            return Err(format!("{}seed {seed} VIOLATES {property}: {shown_by}", outcome.transcript.text()));
        }
        operations += outcome.sums.operations;
    }
    Ok(operations)
}

fn main() {
    match run(1..=100) {
        Ok(operations) => println!("100 worlds are well, {operations} operations"),
        Err(failure) => {
            println!("{failure}");
            std::process::exit(1);
        }
    }
}

#[test]
fn some_worlds_are_well() {
    assert!(run(1..=5).is_ok_and(|operations| operations > 100));
}
