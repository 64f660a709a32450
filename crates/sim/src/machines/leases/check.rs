//! Check: a lease lives until its time to live has passed since it was asked for last, and not much longer; once it is
//! gone it is gone, and its key with it.
//!
//! Owns the reckoning. All that is known is what clients saw, and between which moments.

use std::collections::BTreeMap;

use vlot_raft::invariants::Violation;
use vlot_store::command::Command;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use super::{LeasesUsed, Seen};
use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::subject::{End, OperationOf, Request};

const PROPERTY: &str = "Lease Safety";

/// What may be expected of a world.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// By how much clocks run fast or slow, in millionths.
    clock_drift: u64,
    /// How much longer than its time to live a lease may live, where no fault strikes.
    late: Option<Span>,
}

impl Bounds {
    pub fn under(conditions: &Conditions) -> Self {
        // The first election, a round of telling on the leader and one on a follower, and what proposals take where messages
        // are lost. Where faults strike there may be no leader for long.
        let election = Span(conditions.election_timeout.as_nanos() as u64);
        let late = conditions.faults.is_empty().then(|| election * 3 + Span::seconds(2));
        Self { clock_drift: conditions.clock_drift, late }
    }

    /// The shortest time in which clocks count so many seconds.
    fn at_least(&self, seconds: u64) -> Span {
        Span((u128::from(seconds) * 1_000_000_000 * 1_000_000 / u128::from(1_000_000 + self.clock_drift)) as u64)
    }

    /// The longest.
    fn at_most(&self, seconds: u64) -> Span {
        Span((u128::from(seconds) * 1_000_000_000 * 1_000_000 / u128::from(1_000_000 - self.clock_drift)) as u64)
    }
}

/// When something happened: at some moment between these.
type Between = (Moment, Moment);

/// What is known of one lease.
#[derive(Debug, Default)]
struct Life {
    /// In seconds.
    ttl: u64,
    /// It was granted or renewed.
    renewed: Vec<Between>,
    /// It may have been, at any time since.
    may_be_renewed: bool,
    /// It was there.
    seen: Vec<Between>,
    /// It was not.
    missed: Vec<Between>,
    /// When somebody first asked to revoke it.
    revoked: Option<Moment>,
}

/// Checks a history.
pub(super) fn check(history: &[OperationOf<LeasesUsed>], bounds: Bounds) -> Result<(), Violation> {
    let mut lives: BTreeMap<i64, Life> = BTreeMap::new();
    for operation in history {
        gather(&mut lives, operation)?;
    }
    lives.iter().try_for_each(|(id, life)| life.check(*id, bounds))
}

fn gather(lives: &mut BTreeMap<i64, Life>, operation: &OperationOf<LeasesUsed>) -> Result<(), Violation> {
    let (ended, end) = match &operation.ended {
        Some((moment, end)) => (*moment, Some(end)),
        None => (Moment::NEVER, None),
    };
    let between = (operation.invoked, ended);
    let command = match &operation.request {
        Request::Read(id) => {
            if let Some(End::Answered(Seen { lives: is_there, has_key })) = end {
                let life = lives.entry(*id).or_default();
                let to = if *is_there { &mut life.seen } else { &mut life.missed };
                to.push(between);
                if *has_key && !is_there {
                    return violation(format!("the key of lease {id} is there, and the lease is not"));
                }
            }
            return Ok(());
        }
        Request::Propose(command) => command.command(),
    };
    let reply = match end {
        Some(End::Replied(reply)) => Some(reply),
        Some(End::Refused) => return Ok(()),
        _ => None,
    };
    match command {
        Command::LeaseGrant(grant) => {
            let life = lives.entry(grant.id).or_default();
            life.ttl = grant.ttl as u64;
            match reply {
                Some(Ok(_)) => life.has_renewed(between),
                Some(Err(refusal)) => return violation(format!("lease {} is refused: {refusal}", grant.id)),
                None => life.may_be_renewed = true,
            }
        }
        Command::LeaseKeepAlive(ids) => {
            let life = lives.entry(ids[0]).or_default();
            match reply {
                Some(Ok(Applied::LeaseKeepAlive { ttls, .. })) if ttls[0] > 0 => life.has_renewed(between),
                Some(_) => life.missed.push(between),
                None => life.may_be_renewed = true,
            }
        }
        Command::LeaseRevoke(revoke) => {
            let life = lives.entry(revoke.id).or_default();
            let first = life.revoked.map_or(operation.invoked, |first| first.min(operation.invoked));
            life.revoked = Some(first);
            if reply.is_some() {
                life.missed.push((ended, ended));
            }
        }
        Command::Put(put) => {
            let life = lives.entry(put.lease).or_default();
            match reply {
                Some(Ok(_)) => life.seen.push(between),
                Some(Err(Refusal::LeaseNotFound)) => life.missed.push(between),
                _ => {}
            }
        }
        _ => {}
    }
    Ok(())
}

impl Life {
    fn has_renewed(&mut self, between: Between) {
        self.renewed.push(between);
        self.seen.push(between);
    }

    fn check(&self, id: i64, bounds: Bounds) -> Result<(), Violation> {
        for &(_, gone) in &self.missed {
            if let Some((seen, _)) = self.seen.iter().find(|(begun, _)| *begun > gone) {
                return violation(format!("lease {id} was gone at {gone}, and is there again after {seen}"));
            }
            let was_revoked = self.revoked.is_some_and(|revoked| revoked < gone);
            let ttl = bounds.at_least(self.ttl);
            let newest = self.renewed.iter().map(|(begun, _)| *begun).max();
            if let Some(newest) = newest.filter(|newest| !was_revoked && gone < *newest + ttl) {
                return violation(format!(
                    "lease {id} of {} s was renewed after {newest}, and is gone by {gone}",
                    self.ttl
                ));
            }
        }
        let last = self.renewed.iter().map(|(_, ended)| *ended).max();
        if let (Some(late), Some(last), false) = (bounds.late, last, self.may_be_renewed) {
            let end = last + bounds.at_most(self.ttl) + late;
            if let Some((seen, _)) = self.seen.iter().find(|(begun, _)| *begun > end) {
                return violation(format!(
                    "lease {id} of {} s was renewed before {last}, and is still there after {seen}",
                    self.ttl
                ));
            }
        }
        Ok(())
    }
}

fn violation<T>(shown_by: String) -> Result<T, Violation> {
    Err(Violation { property: PROPERTY, shown_by })
}

#[cfg(test)]
mod tests {
    use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse};

    use super::super::super::store::machine::StoreCommand;
    use super::*;

    type Ended = Option<End<Result<Applied, Refusal>, Seen>>;

    const BOUNDS: Bounds = Bounds { clock_drift: 100_000, late: Some(Span(1_000_000_000)) };

    fn op(request: Request<StoreCommand, i64>, at: u64, end: Ended) -> OperationOf<LeasesUsed> {
        let moment = |ms: u64| Moment(ms * 1_000_000);
        OperationOf::<LeasesUsed> {
            request,
            place: 0,
            invoked: moment(at),
            ended: end.map(|end| (moment(at + 10), end)),
        }
    }

    fn command(command: Command, at: u64, applied: Ended) -> OperationOf<LeasesUsed> {
        op(Request::Propose(StoreCommand::unsigned(command)), at, applied)
    }

    fn grant(at: u64) -> OperationOf<LeasesUsed> {
        let granted = Applied::LeaseGrant(LeaseGrantResponse { id: 1, ttl: 2, ..Default::default() });
        command(Command::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 2 }), at, Some(End::Replied(Ok(granted))))
    }

    fn keep_alive(at: u64, ttl: i64) -> OperationOf<LeasesUsed> {
        let kept = Applied::LeaseKeepAlive { revision: 1, ttls: vec![ttl] };
        command(Command::LeaseKeepAlive(vec![1]), at, Some(End::Replied(Ok(kept))))
    }

    fn revoke(at: u64) -> OperationOf<LeasesUsed> {
        let revoked = Applied::LeaseRevoke(LeaseRevokeResponse::default());
        command(Command::LeaseRevoke(LeaseRevokeRequest { id: 1 }), at, Some(End::Replied(Ok(revoked))))
    }

    fn look(at: u64, lives: bool) -> OperationOf<LeasesUsed> {
        op(Request::Read(1), at, Some(End::Answered(Seen { lives, has_key: false })))
    }

    /// Whether a history is one that clients may see.
    fn holds(history: &[OperationOf<LeasesUsed>]) -> bool {
        check(history, BOUNDS).is_ok()
    }

    #[test]
    fn a_lease_ends_between_its_time_by_the_fastest_clock_and_a_little_after_it_by_the_slowest() {
        // 2 s take a fast clock 1.82 s and a slow one 2.22 s.
        assert!(holds(&[grant(0), look(1_810, false)]));
        assert!(!holds(&[grant(0), look(1_800, false)]));
        assert!(holds(&[grant(0), look(3_230, true)]));
        assert!(!holds(&[grant(0), look(3_240, true)]));
    }

    #[test]
    fn a_renewal_gives_all_of_it_again() {
        assert!(holds(&[grant(0), keep_alive(1_000, 2), look(3_000, false)]));
        assert!(!holds(&[grant(0), keep_alive(1_000, 2), look(2_700, false)]));
        assert!(!holds(&[grant(0), keep_alive(1_000, 0)]));
    }

    #[test]
    fn what_is_revoked_is_gone_and_stays_gone() {
        assert!(holds(&[grant(0), revoke(100), look(105, true), look(120, false)]));
        assert!(!holds(&[grant(0), revoke(100), look(120, true)]));
        assert!(!holds(&[grant(0), revoke(100), keep_alive(120, 2)]));
        assert!(!holds(&[grant(0), look(2_500, false), keep_alive(2_600, 2)]));
    }

    #[test]
    fn a_renewal_of_unknown_outcome_may_have_happened_and_need_not() {
        let unknown = || command(Command::LeaseKeepAlive(vec![1]), 1_000, Some(End::Unknown));
        assert!(holds(&[grant(0), unknown(), look(1_900, false)]));
        assert!(holds(&[grant(0), unknown(), look(5_000, true)]));
    }

    #[test]
    fn a_key_goes_with_its_lease() {
        let seen = Seen { lives: false, has_key: true };
        assert!(!holds(&[grant(0), op(Request::Read(1), 2_500, Some(End::Answered(seen)))]));
    }
}
