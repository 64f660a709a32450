//! A replica's state machine, as it runs in a process: the user's own, and around it what a test adds.
//!
//! Owns what of it outlives the process if it is durable by itself (its *image*), what was seen of each entry that it has
//! applied, and its failing on demand. Must not know of time or of the node.

use crate::checks::State;
use crate::subject::{Command, Reply, Subject};
use bytes::Bytes;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vlot_node::members::Members;
use vlot_node::state_machine::{self, BadCommand, BadSnapshot, StateMachine, TimePassed};
use vlot_raft::id::{LogId, Term};

/// What a state machine has durably by itself, whatever becomes of its process: a snapshot that it wrote as a whole.
#[derive(Clone, Debug, Default)]
pub struct Image(Arc<Mutex<(LogId, Bytes)>>);

impl Image {
    /// The last entry whose effect it has.
    #[must_use]
    pub fn at(&self) -> LogId {
        self.get().0
    }

    fn get(&self) -> MutexGuard<'_, (LogId, Bytes)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen of an entry that was applied.
#[derive(Debug)]
pub struct Seen<R> {
    /// What its command has led to.
    pub reply: Option<R>,
    /// The state then.
    pub state: State,
}

/// A state machine under test.
pub struct Machine<S: Subject> {
    inner: S::Machine,
    applied: LogId,
    /// It is durable by itself, by this.
    image: Option<Image>,
    /// How many entries it may have applied beyond its image.
    image_every: u64,
    makes_snapshots: bool,
    seen: Vec<Seen<Reply<S>>>,
    /// It panics at its next command.
    panics: bool,
    subject: PhantomData<fn() -> S>,
}

impl<S: Subject> Machine<S> {
    /// A state machine of a process that begins; it goes on from its image, if it is durable by itself.
    #[must_use]
    pub fn new(inner: S::Machine, image: Option<Image>, image_every: u64, makes_snapshots: bool) -> Self {
        let can = inner.snapshot().is_some();
        let mut machine = Self {
            inner,
            applied: LogId::ZERO,
            image: image.filter(|_| can),
            image_every,
            makes_snapshots: can && makes_snapshots,
            seen: Vec::new(),
            panics: false,
            subject: PhantomData,
        };
        machine.load();
        machine
    }

    fn load(&mut self) {
        let Some((at, bytes)) = self.image.as_ref().map(|image| image.get().clone()) else { return };
        if at > LogId::ZERO {
            // What a state machine wrote it can read; if not, that is a failure of its own.
            self.inner.restore(at, &mut &bytes[..]).expect("a state machine reads what it wrote");
            self.applied = at;
        }
    }

    /// Whether it gives snapshots.
    #[must_use]
    pub fn makes_snapshots(&self) -> bool {
        self.makes_snapshots
    }

    /// The last entry whose effect it has.
    #[must_use]
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// What is seen of it from outside.
    #[must_use]
    pub fn state(&self) -> State {
        State { applied: self.applied, digest: S::digest(&self.inner), time: S::time(&self.inner) }
    }

    /// Takes what was seen of the entries that were applied since the last time.
    pub fn take_seen(&mut self) -> Vec<Seen<Reply<S>>> {
        std::mem::take(&mut self.seen)
    }

    /// Lets it panic at its next command.
    pub fn fail(&mut self) {
        self.panics = true;
    }

    /// Lets it go on as it should.
    pub fn be_well(&mut self) {
        self.panics = false;
    }

    /// Answers a read.
    pub fn read(&self, query: &S::Query) -> S::Answer {
        S::read(&self.inner, query)
    }

    /// What its node proposes on its behalf.
    #[must_use]
    pub fn look_after(&self, local: Duration, leads_in: Option<Term>) -> Option<Command<S>> {
        S::look_after(&self.inner, local, leads_in)
    }

    fn is_at(&mut self, at: LogId, reply: Option<Reply<S>>) {
        self.applied = at;
        let state = self.state();
        self.seen.push(Seen { reply, state });
    }

    fn write_image(&self) {
        let Some(image) = &self.image else { return };
        let Some(mut snapshot) = self.inner.snapshot() else { return };
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).expect("memory takes everything");
        *image.get() = (self.applied, bytes.into());
    }
}

impl<S: Subject> StateMachine for Machine<S> {
    type Command = Command<S>;
    type Reply = Reply<S>;

    fn apply(&mut self, at: LogId, command: Self::Command) -> Self::Reply {
        if self.panics {
            // As a panic, but the panic hook is not called: it is meant.
            std::panic::resume_unwind(Box::new("it was told to"));
        }
        let reply = self.inner.apply(at, command);
        self.is_at(at, Some(reply.clone()));
        reply
    }

    fn can_apply(&self, command: &Self::Command) -> Result<(), BadCommand> {
        self.inner.can_apply(command)
    }

    fn is_prompt(&self, command: &Self::Command) -> bool {
        self.inner.is_prompt(command)
    }

    fn skip(&mut self, at: LogId) {
        self.inner.skip(at);
        self.is_at(at, None);
    }

    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        self.inner.members_changed(at, members, context);
        self.is_at(at, None);
    }

    fn wants_time(&self) -> bool {
        self.inner.wants_time()
    }

    fn time_passed(&mut self, at: LogId, passed: TimePassed) {
        self.inner.time_passed(at, passed);
        self.is_at(at, None);
    }

    fn end_batch(&mut self) {
        self.inner.end_batch();
        if self.applied.index.since(self.durable().index) >= self.image_every {
            self.write_image();
        }
    }

    fn maintain(&mut self) -> bool {
        self.inner.maintain()
    }

    fn close(&mut self) {
        self.inner.close();
        self.write_image();
    }

    fn durable(&self) -> LogId {
        self.image.as_ref().map(Image::at).unwrap_or_default()
    }

    /// One that is durable by itself gives what it has durably, which is of an earlier entry; by the next time it has caught
    /// up.
    fn snapshot(&self) -> Option<Box<dyn state_machine::Snapshot>> {
        if !self.makes_snapshots {
            return None;
        }
        match &self.image {
            Some(image) => {
                let (at, bytes) = image.get().clone();
                self.write_image();
                (at > LogId::ZERO).then(|| Box::new(Written { at, bytes }) as Box<dyn state_machine::Snapshot>)
            }
            None => self.inner.snapshot(),
        }
    }

    fn restore(&mut self, at: LogId, from: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        self.inner.restore(at, from)?;
        self.applied = at;
        self.write_image();
        Ok(())
    }
}

/// A snapshot that is bytes already.
struct Written {
    at: LogId,
    bytes: Bytes,
}

impl state_machine::Snapshot for Written {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Conditions;
    use crate::machines::registers::RegistersUsed;
    use crate::rng::Rng;

    fn machine(image: Option<Image>) -> Machine<RegistersUsed> {
        let subject = RegistersUsed::new(&Conditions::calm(3), &mut Rng::new(1, 1));
        Machine::new(subject.machine(), image, 2, true)
    }

    #[test]
    fn what_is_in_the_image_outlives_the_process() {
        let image = Image::default();
        let mut first = machine(Some(image.clone()));
        for index in 1..=3 {
            first.skip(LogId::new(1, index));
            first.end_batch();
        }
        assert_eq!((first.applied(), first.durable()), (LogId::new(1, 3), LogId::new(1, 2)));
        assert_eq!(first.take_seen().len(), 3);
        let second = machine(Some(image));
        assert_eq!((second.applied(), second.durable()), (LogId::new(1, 2), LogId::new(1, 2)));
        assert_eq!(machine(None).applied(), LogId::ZERO);
    }
}
