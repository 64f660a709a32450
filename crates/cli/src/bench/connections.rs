//! The connections that clients and watchers share.
//!
//! A connection that breaks is opened again by the first client that notices, at the next endpoint if its own is gone, and the
//! others wait for that.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Load;
use super::tally::Tally;
use crate::client::{Channel, Endpoint, Failure, Options};

/// How long a connection may take to establish.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// All connections of a run, dealt out in turn.
pub struct Connections {
    slots: Vec<Rc<Slot>>,
}

struct Slot {
    endpoints: Vec<Endpoint>,
    options: Options,
    tally: Rc<RefCell<Tally>>,
    open: Mutex<Open>,
}

/// The connection in use.
struct Open {
    channel: Channel,
    /// Counts the connections of this slot.
    generation: u64,
    /// Which endpoint it goes to.
    endpoint: usize,
}

impl Connections {
    /// Opens all of them, spread over the endpoints.
    ///
    /// # Errors
    /// If an endpoint does not answer: a run should begin with all servers there.
    pub async fn open(load: &Load, options: &Options, tally: &Rc<RefCell<Tally>>) -> Result<Connections, Failure> {
        let mut slots = Vec::new();
        for number in 0..load.connections() {
            let endpoint = number % load.endpoints.len();
            let channel = Channel::open(&load.endpoints[endpoint], options).await?;
            slots.push(Rc::new(Slot {
                endpoints: load.endpoints.clone(),
                options: options.clone(),
                tally: tally.clone(),
                open: Mutex::new(Open { channel, generation: 0, endpoint }),
            }));
        }
        Ok(Connections { slots })
    }

    /// The connection for the user of this number.
    pub async fn lease(&self, user: usize) -> Lease {
        let slot = self.slots[user % self.slots.len()].clone();
        let (channel, generation) = {
            let open = slot.open.lock().await;
            (open.channel.share(), open.generation)
        };
        Lease { channel, generation, slot }
    }
}

/// One user's hold on a shared connection.
pub struct Lease {
    pub channel: Channel,
    generation: u64,
    slot: Rc<Slot>,
}

impl Lease {
    /// Gets a connection that is newer than the one that failed. Does not give up.
    pub async fn renew(&mut self) {
        let mut open = self.slot.open.lock().await;
        if open.generation == self.generation {
            let mut pause = BACK_OFF_MIN;
            loop {
                match Channel::open(&self.slot.endpoints[open.endpoint], &self.slot.options).await {
                    Ok(channel) => {
                        open.channel = channel;
                        break;
                    }
                    Err(failure) => self.slot.tally.borrow_mut().note(&failure),
                }
                open.endpoint = (open.endpoint + 1) % self.slot.endpoints.len();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
            open.generation += 1;
            self.slot.tally.borrow_mut().opened_again();
        }
        self.channel = open.channel.share();
        self.generation = open.generation;
    }
}

/// Whether the connection, and not just the call, has failed.
pub fn needs_renewal(failure: &Failure) -> bool {
    matches!(failure, Failure::Broken { .. } | Failure::Unreachable { .. })
}
