//! What is news to all groups: that a connection to a peer has come or gone, that a peer is silent, that the disk is full.
//!
//! A node may have thousands of groups, and a turn in which all of them are told holds up whatever else waits for it. So
//! they are told a few at a time, and so that what they make of it, thousands of elections, does not take all the time
//! there is either. A group to which something else happens meanwhile is told before, so that each group
//! hears everything in the order in which it happened. Owns which group has heard what. Must not know what a group does
//! with it.

use std::collections::VecDeque;
use std::time::Duration;

use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::time::Time;

/// How many groups are told at a time, and after which time the next: ten thousand of them in less than an election
/// timeout, as it usually is.
const GROUPS_AT_A_TIME: usize = 128;
const PACE: Duration = Duration::from_millis(10);
/// How many news wait to be told, at most. All groups are told at once rather than that more of them wait.
const NEWS_MAX: usize = 64;

/// Something that all groups must hear of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum News {
    /// A peer is connected, and whether it reads entries that commands share.
    Connected(NodeId, bool),
    /// The connection to a peer is gone.
    Lost(NodeId),
    /// Nothing was heard of a peer for an election timeout, though its connection seems to stand.
    Silent(NodeId),
    /// A node is no peer any more.
    Unlisted(NodeId),
    /// Whether the disk has room for entries.
    Room(bool),
}

/// The news that some group has yet to hear, and which groups.
#[derive(Debug, Default)]
pub(crate) struct Bulletin {
    /// The number of the first of them.
    first: u64,
    news: Vec<News>,
    /// Groups to be told. Some may have heard all of it meanwhile.
    untold: VecDeque<GroupId>,
    /// When the next of them are told.
    next_at: Time,
}

impl Bulletin {
    /// Adds something that all these groups must hear of.
    pub(crate) fn add(&mut self, news: News, groups: impl Iterator<Item = GroupId>) {
        self.news.push(news);
        self.untold.clear();
        self.untold.extend(groups);
    }

    /// The number of the next news: a group that begins now has heard everything before it.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.news.len() as u64
    }

    /// What a group has not heard that has heard everything before this number.
    pub(crate) fn since(&self, heard: u64) -> &[News] {
        let heard = usize::try_from(heard.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.news.get(heard..).unwrap_or_default()
    }

    /// When the next groups are to be told.
    pub(crate) fn deadline(&self) -> Time {
        if self.untold.is_empty() { Time::NEVER } else { self.next_at }
    }

    /// The groups to tell now. They must be told all of it.
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<GroupId> {
        if now < self.deadline() {
            return Vec::new();
        }
        self.next_at = now + PACE;
        let are_too_many = self.news.len() > NEWS_MAX;
        let count = if are_too_many { self.untold.len() } else { GROUPS_AT_A_TIME.min(self.untold.len()) };
        self.untold.drain(..count).collect()
    }

    /// Forgets the news if no group waits to hear them.
    pub(crate) fn forget_told(&mut self) {
        if self.untold.is_empty() {
            self.first += self.news.len() as u64;
            self.news.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: News = News::Lost(NodeId(2));
    const BACK: News = News::Connected(NodeId(2), true);

    fn groups(count: u64) -> impl Iterator<Item = GroupId> {
        (1..=count).map(GroupId)
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn groups_are_told_a_few_at_a_time_and_all_of_it() {
        let mut bulletin = Bulletin::default();
        assert_eq!((bulletin.deadline(), bulletin.take_due(at(5))), (Time::NEVER, Vec::new()));
        bulletin.add(LOST, groups(300));
        assert_eq!((bulletin.next(), bulletin.since(0)), (1, &[LOST][..]));
        assert!(bulletin.deadline() <= at(100), "at once");
        let mut told = bulletin.take_due(at(100));
        assert_eq!(told.len(), GROUPS_AT_A_TIME);
        assert_eq!((bulletin.deadline(), bulletin.take_due(at(109))), (at(110), Vec::new()));
        bulletin.forget_told();
        assert_eq!(bulletin.since(0), [LOST], "others wait for it");
        while bulletin.deadline() < Time::NEVER {
            told.extend(bulletin.take_due(bulletin.deadline()));
        }
        assert_eq!(told, groups(300).collect::<Vec<_>>());
        bulletin.forget_told();
        assert_eq!((bulletin.next(), bulletin.since(0), bulletin.since(1)), (1, &[][..], &[][..]));
    }

    #[test]
    fn what_happens_meanwhile_is_told_in_order() {
        let mut bulletin = Bulletin::default();
        bulletin.add(LOST, groups(300));
        bulletin.take_due(at(100));
        bulletin.add(BACK, groups(300));
        assert_eq!(bulletin.since(0), [LOST, BACK]);
        assert_eq!(bulletin.since(1), [BACK], "to a group that has heard the first");
        assert_eq!(bulletin.since(bulletin.next()), []);
        assert_eq!(bulletin.take_due(at(110))[0], GroupId(1), "it has not heard the second");
    }

    #[test]
    fn no_more_news_wait_than_are_bounded() {
        let mut bulletin = Bulletin::default();
        for _ in 0..=NEWS_MAX {
            bulletin.add(LOST, groups(300));
        }
        assert_eq!(bulletin.take_due(at(100)).len(), 300);
        bulletin.forget_told();
        assert!(bulletin.since(0).is_empty());
    }
}
