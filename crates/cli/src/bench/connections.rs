//! The connections that clients and watchers share.
//!
//! A connection that breaks is opened again by the first client that notices, at the next endpoint if its own is gone, and the
//! others wait for that. So it is with the token of the user, which all of them carry.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use tokio::sync::Mutex;

use super::Load;
use super::session::{Session, Token};
use super::tally::Tally;
use crate::client::{Channel, Endpoint, Failure, Options, has_ended};

/// How long a connection may take to establish.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// All connections of a run, dealt out in turn.
pub struct Connections {
    slots: Vec<Rc<Slot>>,
    /// If somebody is logged in.
    session: Option<Rc<Session>>,
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
    /// Opens all of them, spread over the endpoints, and logs in over the first.
    ///
    /// # Errors
    /// If an endpoint does not answer: a run should begin with all servers there. If the user is refused.
    pub async fn open(load: &Load, options: &Options, tally: &Rc<RefCell<Tally>>) -> Result<Connections, Failure> {
        let mut slots = Vec::new();
        let mut session = None;
        for number in 0..load.connections() {
            let endpoint = number % load.endpoints.len();
            let mut channel = Channel::open(&load.endpoints[endpoint], options).await?;
            if let (None, Some(credentials)) = (&session, &options.credentials) {
                let begun = Session::begin(credentials.clone(), &mut channel, load.timeout, tally).await?;
                session = Some(Rc::new(begun));
            }
            slots.push(Rc::new(Slot {
                endpoints: load.endpoints.clone(),
                options: options.clone(),
                tally: tally.clone(),
                open: Mutex::new(Open { channel, generation: 0, endpoint }),
            }));
        }
        Ok(Connections { slots, session })
    }

    /// Has a connection that is none of these carry the token that they carry.
    pub async fn identify(&self, channel: &mut Channel) {
        if let Some(session) = &self.session {
            session.carried_by(channel).await;
        }
    }

    /// The connection for the user of this number.
    pub async fn lease(&self, user: usize) -> Lease {
        let slot = self.slots[user % self.slots.len()].clone();
        let (mut channel, generation) = {
            let open = slot.open.lock().await;
            (open.channel.share(), open.generation)
        };
        let login = match &self.session {
            Some(session) => Some((session.clone(), session.carried_by(&mut channel).await)),
            None => None,
        };
        Lease { channel, generation, slot, login }
    }
}

/// One user's hold on a shared connection.
pub struct Lease {
    pub channel: Channel,
    generation: u64,
    slot: Rc<Slot>,
    /// Who calls, and by which token.
    login: Option<(Rc<Session>, Token)>,
}

impl Lease {
    /// One request, one reply. If the token has ended, once more with another: what was refused has done nothing.
    ///
    /// # Errors
    /// As the connection's own call, or of the login.
    pub async fn call<Reply: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        match self.channel.call(path, request, budget).await {
            Err(failure) if self.has_to_log_in(&failure) => {
                self.log_in_anew().await?;
                self.channel.call(path, request, budget).await
            }
            outcome => outcome,
        }
    }

    /// Whether something failed for the sake of the user's token alone.
    pub fn has_to_log_in(&self, failure: &Failure) -> bool {
        self.login.is_some() && has_ended(failure)
    }

    /// Gets a token that is newer than the one that has ended, if somebody is logged in.
    ///
    /// # Errors
    /// The user is refused, or the call fails.
    pub async fn log_in_anew(&mut self) -> Result<(), Failure> {
        match &mut self.login {
            Some((session, token)) => session.renew(token, &mut self.channel).await,
            None => Ok(()),
        }
    }

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
        if let Some((session, token)) = &mut self.login {
            *token = session.carried_by(&mut self.channel).await;
        }
    }
}

/// Whether the connection, and not just the call, has failed.
pub fn needs_renewal(failure: &Failure) -> bool {
    matches!(failure, Failure::Broken { .. } | Failure::Unreachable { .. })
}
