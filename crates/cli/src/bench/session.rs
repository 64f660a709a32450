//! As whom a run's calls are made: one token for all its connections, and another when that one has ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Mutex;

use super::tally::Tally;
use crate::client::{Channel, Credentials, Failure};

/// A user that is logged in.
pub struct Session {
    credentials: Credentials,
    /// How long a login may take.
    budget: Duration,
    tally: Rc<RefCell<Tally>>,
    token: Mutex<Token>,
}

/// What the calls of a connection carry.
#[derive(Clone)]
pub struct Token {
    /// `None` from servers that ask nobody who they are.
    header: Option<HeaderValue>,
    /// Counts the tokens of the session.
    generation: u64,
}

impl Session {
    /// Logs the user in over this connection.
    ///
    /// # Errors
    /// The user is refused, or the call fails.
    pub async fn begin(
        credentials: Credentials,
        channel: &mut Channel,
        budget: Duration,
        tally: &Rc<RefCell<Tally>>,
    ) -> Result<Session, Failure> {
        let header = credentials.token(channel, budget).await?;
        let token = Mutex::new(Token { header, generation: 0 });
        Ok(Session { credentials, budget, tally: tally.clone(), token })
    }

    /// Has a connection carry the token of this moment.
    pub async fn carried_by(&self, channel: &mut Channel) -> Token {
        let token = self.token.lock().await.clone();
        token.go_with(channel);
        token
    }

    /// Has a connection carry a token that is newer than the one that has ended: of all that ask, the first logs in, and the
    /// others wait for that.
    ///
    /// # Errors
    /// The user is refused, or the call fails.
    pub async fn renew(&self, carried: &mut Token, channel: &mut Channel) -> Result<(), Failure> {
        let mut token = self.token.lock().await;
        if token.generation == carried.generation {
            token.header = self.credentials.token(channel, self.budget).await?;
            token.generation += 1;
            self.tally.borrow_mut().logged_in_again();
        }
        token.go_with(channel);
        *carried = token.clone();
        Ok(())
    }
}

impl Token {
    fn go_with(&self, channel: &mut Channel) {
        if let Some(header) = &self.header {
            channel.carry(header.clone());
        }
    }
}
