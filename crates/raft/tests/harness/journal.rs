//! What a cluster did, one event a line.

use std::collections::BTreeSet;

use vlot_raft::id::NodeId;
use vlot_raft::message::Message;
use vlot_raft::time::Time;

use super::notation;

#[derive(Default)]
pub struct Journal {
    /// Whether anything is written at all.
    pub on: bool,
    /// Names of messages that are left out.
    pub hidden: BTreeSet<String>,
    /// Whether messages are written with the sessions that they name.
    pub sessions: bool,
    lines: Vec<String>,
    /// The moment, if no line has been written at it yet.
    moment: Option<Time>,
}

impl Journal {
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if let Some(moment) = self.moment.take() {
            self.lines.push(format!("at {}ms", moment.since_origin().as_millis()));
        }
        self.lines.push(line());
    }

    /// A message and what became of it: `->` delivered, `-x` lost, `-|` held up.
    pub fn message(&mut self, from: NodeId, arrow: &str, to: NodeId, message: &Message) {
        if self.on && !self.hidden.contains(notation::name(&message.body)) {
            let session = notation::session_of(&message.body).filter(|_| self.sessions);
            let session = session.map_or(String::new(), |session| format!(" session={}", session.0));
            self.line(|| format!("n{from} {arrow} n{to} {}{session}", notation::message(message)));
        }
    }

    pub fn time(&mut self, now: Time) {
        self.moment = Some(now);
    }

    /// What was written since the last time.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The last lines, for a failure.
    pub fn tail(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }
}
