//! Passwords that wait to be checked: clients take turns, so that one that guesses delays its own logins and no one else's.
//!
//! Owns whose turn it is, and how many may wait. Must not know how a password is checked.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::sync::oneshot;

use super::{CALLERS_MAX, Name};
use crate::status::Status;

/// Different passwords of one user, from one client.
const WAITING_OF_USER_MAX: usize = 8;
/// Passwords from one client.
const WAITING_OF_CLIENT_MAX: usize = 1024;
/// All of them.
const WAITING_MAX: usize = 8 * 1024;

/// A password to check.
pub(super) struct Job {
    pub(super) name: Name,
    /// The client, by its address.
    pub(super) from: Option<IpAddr>,
    /// Whose password it should be. Empty stands for all that are unknown.
    pub(super) user: Box<str>,
    pub(super) hash: String,
    pub(super) password: String,
}

/// A call that waits for a verdict.
type Callers = Vec<oneshot::Sender<bool>>;

/// Those that wait.
#[derive(Default)]
pub(super) struct Line {
    /// Clients of which something waits, in the order of their turns.
    turns: VecDeque<Option<IpAddr>>,
    of_client: HashMap<Option<IpAddr>, VecDeque<Job>>,
    /// Who waits for each, until it is checked. The same password is checked once for all that have come with it.
    callers: HashMap<Name, Callers>,
    callers_count: usize,
    waiting: usize,
}

impl Line {
    /// Waits for a password that is being checked already, or waits to be. Gives the caller back if there is none such.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn join(
        &mut self,
        name: &Name,
        caller: oneshot::Sender<bool>,
    ) -> Result<Option<oneshot::Sender<bool>>, Status> {
        if self.callers_count >= CALLERS_MAX {
            return Err(Status::TOO_MANY_REQUESTS);
        }
        let Some(callers) = self.callers.get_mut(name) else { return Ok(Some(caller)) };
        callers.push(caller);
        self.callers_count += 1;
        Ok(None)
    }

    /// Lets a password wait for its turn.
    ///
    /// # Errors
    /// Too many wait: of this user, from this client, or of all.
    pub(super) fn enter(&mut self, job: Job, caller: oneshot::Sender<bool>) -> Result<(), Status> {
        let of_client = self.of_client.get(&job.from);
        let of_user = of_client.into_iter().flatten().filter(|other| other.user == job.user).count();
        let is_full = self.waiting >= WAITING_MAX
            || of_client.is_some_and(|jobs| jobs.len() >= WAITING_OF_CLIENT_MAX)
            || of_user >= WAITING_OF_USER_MAX;
        if is_full {
            return Err(Status::TOO_MANY_REQUESTS);
        }
        self.callers.insert(job.name, vec![caller]);
        self.callers_count += 1;
        self.waiting += 1;
        let jobs = self.of_client.entry(job.from).or_default();
        if jobs.is_empty() {
            self.turns.push_back(job.from);
        }
        jobs.push_back(job);
        Ok(())
    }

    /// The next one that somebody still waits for. Its client's next turn is behind those of all others.
    pub(super) fn next(&mut self) -> Option<Job> {
        loop {
            let client = self.turns.pop_front()?;
            let jobs = self.of_client.get_mut(&client)?;
            let job = jobs.pop_front()?;
            self.waiting -= 1;
            if jobs.is_empty() {
                self.of_client.remove(&client);
            } else {
                self.turns.push_back(client);
            }
            let is_wanted = |callers: &Callers| callers.iter().any(|caller| !caller.is_closed());
            if self.callers.get(&job.name).is_some_and(is_wanted) {
                return Some(job);
            }
            self.leave(&job.name);
        }
    }

    /// Takes those that wait for this one.
    pub(super) fn leave(&mut self, name: &Name) -> Callers {
        let callers = self.callers.remove(name).unwrap_or_default();
        self.callers_count -= callers.len();
        callers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    /// Lets one wait, and keeps the end that waits.
    fn enter(line: &mut Line, from: Option<IpAddr>, user: &str, number: u16) -> Option<oneshot::Receiver<bool>> {
        let mut name = [0; 32];
        name[..2].copy_from_slice(&number.to_be_bytes());
        let (told, verdict) = oneshot::channel();
        let job = Job { name, from, user: user.into(), hash: String::new(), password: String::new() };
        line.enter(job, told).ok().map(|()| verdict)
    }

    #[test]
    fn clients_take_turns_however_much_one_asks() {
        let mut line = Line::default();
        let mut kept: Vec<_> = (0..100).map(|n| enter(&mut line, client(1), &format!("user{n}"), n)).collect();
        kept.extend([enter(&mut line, client(2), "anna", 200), enter(&mut line, client(3), "berta", 201)]);
        let users: Vec<_> = (0..4).map(|_| line.next().unwrap().user).collect();
        assert_eq!(users.iter().map(|user| &**user).collect::<Vec<_>>(), ["user0", "anna", "berta", "user1"]);
    }

    #[test]
    fn guesses_at_one_user_are_few_at_a_time_and_leave_the_rest_of_the_client_alone() {
        let mut line = Line::default();
        let guesses: Vec<_> = (0..100).map_while(|n| enter(&mut line, client(1), "anna", n)).collect();
        assert_eq!(guesses.len(), WAITING_OF_USER_MAX);
        assert!(enter(&mut line, client(1), "berta", 200).is_some());
        assert!(enter(&mut line, client(2), "anna", 201).is_some());
    }

    #[test]
    fn what_nobody_waits_for_is_passed_over_and_nothing_stays_behind() {
        let mut line = Line::default();
        drop(enter(&mut line, client(1), "anna", 1));
        let waits = enter(&mut line, client(1), "berta", 2);
        let job = line.next().unwrap();
        assert_eq!(&*job.user, "berta");
        let (told, _verdict) = oneshot::channel();
        assert!(line.join(&job.name, told).unwrap().is_none());
        assert_eq!(line.leave(&job.name).len(), 2);
        drop(waits);
        assert!(line.next().is_none());
        assert_eq!((line.callers_count, line.waiting, line.callers.len(), line.of_client.len()), (0, 0, 0, 0));
    }
}
