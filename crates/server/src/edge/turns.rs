//! How a connection's task shares its thread with the others: how much is read in a turn, and when the next one may be.
//!
//! Owns the pauses of one connection. While one lasts, what the client sends stays in the system's buffers, and answers go out as
//! ever. Must not know what was read (`frames.rs` counts that).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Connection;
use crate::telemetry::metrics::Metrics;

/// The turns of one connection.
pub(super) struct Turns {
    connection: Arc<Connection>,
    metrics: Arc<Metrics>,
    /// Until when nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Turns {
    pub(super) fn of(connection: Arc<Connection>, metrics: Arc<Metrics>) -> Turns {
        Turns { connection, metrics, pause: None }
    }

    /// Serves the connection to its end. Cancel-safe if serving is.
    pub(super) async fn serve<F: Future>(&mut self, mut served: Pin<&mut F>) -> F::Output {
        poll_fn(|context| self.poll(served.as_mut(), context)).await
    }

    fn poll<F: Future>(&mut self, served: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        let may_read = self.may_read(context);
        self.connection.begin_turn(may_read);
        let ended = served.poll(context);
        // What is not read because the turn is over wakes nobody.
        if ended.is_pending() && may_read && self.connection.is_turn_over() && self.may_read(context) {
            context.waker().wake_by_ref();
        }
        ended
    }

    /// Whether the connection may be read from. If it may not, the task is woken when it may.
    fn may_read(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(wait) = self.connection.settle() {
            self.metrics.client_paused();
            let until = Instant::now() + wait;
            match &mut self.pause {
                Some(pause) => pause.as_mut().reset(until),
                None => self.pause = Some(Box::pin(sleep_until(until))),
            }
        }
        if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(context).is_pending()) {
            return false;
        }
        self.pause = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::edge::frames::Frames;

    const HEADERS: &[u8] = b"\0\0\x1a\x01\x04\0\0\0\x01\x83\x86\x84\x41\x03h:1\x5f\x10application/grpc";
    const RST_STREAM: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";

    /// Reads all of this in turns. Returns how many there were, and how long it took.
    async fn read(sent: &[u8]) -> (usize, Duration) {
        let connection = Connection::of_test();
        let mut frames = Frames::behind(0, tokio::io::join(sent, tokio::io::sink()), connection.clone());
        let (mut received, mut turns) = (Vec::new(), 0);
        let begun = Instant::now();
        let mut reading = pin!(frames.read_to_end(&mut received));
        let served = poll_fn(|context| {
            turns += 1;
            reading.as_mut().poll(context)
        });
        Turns::of(connection, Arc::new(Metrics::new(false))).serve(pin!(served)).await.unwrap();
        assert!(received == sent, "all passes as it came, however many turns that takes");
        (turns, begun.elapsed())
    }

    #[tokio::test]
    async fn requests_end_the_turn_of_their_task_after_a_while() {
        let (turns, _) = read(&HEADERS.repeat(10_000)).await;
        assert!((150..300).contains(&turns), "{turns} turns for 10,000 requests");
    }

    #[tokio::test]
    async fn who_takes_many_calls_back_waits_and_who_takes_back_a_few_does_not() {
        let taken_back = [HEADERS, RST_STREAM].concat();
        let (turns, _) = read(&taken_back.repeat(25)).await;
        assert!(turns < 20, "{turns} turns");
        let (turns, took) = read(&taken_back.repeat(2_000)).await;
        // Each is nine pieces of work, of which 64 are done in a millisecond.
        assert!(turns > 200 && took > Duration::from_millis(200), "{turns} turns, {took:?}");
    }
}
