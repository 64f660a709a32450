//! What is news to all groups: that a connection to a peer has come or gone, that a peer is silent, that the disk is full.
//!
//! A node may have thousands of groups, and a turn in which all of them are told holds up whatever else waits for it. So
//! they are told a few in each turn. A group to which something else happens meanwhile is told before, so that each group
//! hears everything in the order in which it happened. Owns which group has heard what. Must not know what a group does
//! with it.

use std::collections::VecDeque;

use vlot_raft::id::{GroupId, NodeId};

/// How many groups are told in one turn, at most.
const GROUPS_A_TURN: usize = 128;
/// How many news wait to be told, at most. All groups are told at once rather than that more of them wait.
const NEWS_MAX: usize = 64;

/// Something that all groups must hear of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum News {
    /// A peer is connected.
    Connected(NodeId),
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

    /// Whether groups wait to be told.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The groups to tell in this turn. They must be told all of it.
    pub(crate) fn take_some(&mut self) -> Vec<GroupId> {
        let count = if self.news.len() > NEWS_MAX { self.untold.len() } else { GROUPS_A_TURN.min(self.untold.len()) };
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
    const BACK: News = News::Connected(NodeId(2));

    fn groups(count: u64) -> impl Iterator<Item = GroupId> {
        (1..=count).map(GroupId)
    }

    #[test]
    fn groups_are_told_a_few_at_a_time_and_all_of_it() {
        let mut bulletin = Bulletin::default();
        bulletin.add(LOST, groups(300));
        assert_eq!((bulletin.next(), bulletin.since(0)), (1, &[LOST][..]));
        let mut told = bulletin.take_some();
        assert_eq!(told.len(), GROUPS_A_TURN);
        bulletin.forget_told();
        assert_eq!(bulletin.since(0), [LOST], "others wait for it");
        while bulletin.is_under_way() {
            told.extend(bulletin.take_some());
        }
        assert_eq!(told, groups(300).collect::<Vec<_>>());
        bulletin.forget_told();
        assert_eq!((bulletin.next(), bulletin.since(0), bulletin.since(1)), (1, &[][..], &[][..]));
    }

    #[test]
    fn what_happens_meanwhile_is_told_in_order() {
        let mut bulletin = Bulletin::default();
        bulletin.add(LOST, groups(300));
        bulletin.take_some();
        bulletin.add(BACK, groups(300));
        assert_eq!(bulletin.since(0), [LOST, BACK]);
        assert_eq!(bulletin.since(1), [BACK], "to a group that has heard the first");
        assert_eq!(bulletin.since(bulletin.next()), []);
        assert_eq!(bulletin.take_some()[0], GroupId(1), "it has not heard the second");
    }

    #[test]
    fn no_more_news_wait_than_are_bounded() {
        let mut bulletin = Bulletin::default();
        for _ in 0..=NEWS_MAX {
            bulletin.add(LOST, groups(300));
        }
        assert_eq!(bulletin.take_some().len(), 300);
        bulletin.forget_told();
        assert!(bulletin.since(0).is_empty());
    }
}
