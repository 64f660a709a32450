//! When a connection may be read from, and when its client is asked whether it is there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep, sleep_until};
use vlot_http2::Connection as Http2;

use crate::edge::ConnectionError;
use crate::edge::connection::Connection;
use crate::telemetry::metrics::Metrics;

/// The pauses of one connection. While one lasts, what the client sends stays in the system's buffers, and answers go out as ever.
pub(super) struct Pause {
    connection: Arc<Connection>,
    metrics: Arc<Metrics>,
    /// Until when nothing is read.
    until: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    pub(super) fn of(connection: Arc<Connection>, metrics: Arc<Metrics>) -> Pause {
        Pause { connection, metrics, until: None }
    }

    /// Whether the connection may be read from. If it may not, the task is woken when it may.
    pub(super) fn may_read(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(wait) = self.connection.settle() {
            self.metrics.client_paused();
            let until = tokio::time::Instant::now() + wait;
            match &mut self.until {
                Some(pause) => pause.as_mut().reset(until),
                None => self.until = Some(Box::pin(sleep_until(until))),
            }
        }
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(context).is_pending()) {
            return false;
        }
        self.until = None;
        true
    }
}

/// Pings to a client that says nothing.
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, timeout: Duration) -> KeepAlive {
        KeepAlive { interval, timeout, heard: Instant::now(), alarm: Box::pin(sleep(interval)) }
    }

    /// Something has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Asks the client if it is time to. Returns whether there is something to send.
    ///
    /// # Errors
    /// It was asked, and has not answered in time.
    pub(super) fn poll(&mut self, http2: &mut Http2, context: &mut Context<'_>) -> Result<bool, ConnectionError> {
        let mut has_asked = false;
        while let Poll::Ready(()) = self.alarm.as_mut().poll(context) {
            if http2.is_pong_awaited() && !has_asked {
                return Err(ConnectionError::NoPong);
            }
            let quiet = self.heard.elapsed();
            let wait = match self.interval.checked_sub(quiet) {
                Some(rest) if !rest.is_zero() => rest,
                _ => {
                    http2.ping();
                    has_asked = true;
                    self.timeout
                }
            };
            self.alarm.as_mut().reset(tokio::time::Instant::now() + wait);
        }
        Ok(has_asked)
    }
}
