//! [`TermRuns`] against the obvious: a plain list of terms. Every operation on every short log.

use vlot_raft::id::{LogId, LogIndex, Term};
use vlot_raft::term_runs::TermRuns;

/// A stretch of log as a list: the entry before it, and the term of each entry.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    after: LogId,
    terms: Vec<u64>,
}

impl Plain {
    fn runs(&self) -> TermRuns {
        let mut runs = TermRuns::empty(self.after);
        self.terms.iter().for_each(|&term| runs.push(Term(term), 1));
        runs
    }

    fn last(&self) -> u64 {
        self.after.index.0 + self.terms.len() as u64
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.after.index.0)? {
            0 => Some(self.after.term.0),
            nth => self.terms.get(nth as usize - 1).copied(),
        }
    }

    fn id_at(&self, index: u64) -> LogId {
        LogId::new(self.term_at(index).expect("within"), index)
    }

    /// The part `(from, upto]`.
    fn part(&self, from: u64, upto: u64) -> Plain {
        let terms = (from + 1..=upto).map(|index| self.term_at(index).expect("within")).collect();
        Plain { after: self.id_at(from), terms }
    }

    fn indexes(&self) -> std::ops::RangeInclusive<u64> {
        self.after.index.0..=self.last()
    }
}

/// All logs of up to `len` entries with terms up to `terms`, after each of a few beginnings.
fn all(len: usize, terms: u64) -> Vec<Plain> {
    let mut all = Vec::new();
    for after in [LogId::ZERO, LogId::new(1, 1), LogId::new(2, 3)] {
        let mut longest = vec![Plain { after, terms: Vec::new() }];
        for _ in 0..len {
            all.extend(longest.iter().cloned());
            let longer = longest.iter().flat_map(|log| {
                let newest = log.id_at(log.last()).term.0.max(1);
                (newest..=terms).map(|term| Plain { after, terms: [&log.terms[..], &[term]].concat() })
            });
            longest = longer.collect();
        }
        all.extend(longest);
    }
    all
}

/// Everything that can be read of a stretch.
fn check_same(runs: &TermRuns, plain: &Plain) {
    assert_eq!((runs.after(), runs.last()), (plain.after, LogIndex(plain.last())), "{plain:?}");
    assert_eq!((runs.last_id(), runs.is_empty()), (plain.id_at(plain.last()), plain.terms.is_empty()), "{plain:?}");
    for index in 0..=plain.last() + 2 {
        assert_eq!(runs.term_at(LogIndex(index)).map(|term| term.0), plain.term_at(index), "at {index} of {plain:?}");
        for term in 0..=5 {
            let contains = plain.term_at(index) == Some(term);
            assert_eq!(runs.contains(LogId::new(term, index)), contains, "{index}@{term} in {plain:?}");
        }
    }
    let listed: Vec<u64> =
        runs.iter().flat_map(|(term, first, last)| (first.0..=last.0).map(move |_| term.0)).collect();
    assert_eq!(listed, plain.terms, "{runs:?}");
    let terms: Vec<Term> = runs.iter().map(|(term, _, _)| term).collect();
    assert!(terms.windows(2).all(|two| two[0] < two[1]), "one run a term in {runs:?}");
}

#[test]
fn reading_is_that_of_a_list() {
    all(5, 4).iter().for_each(|plain| check_same(&plain.runs(), plain));
}

#[test]
fn two_ways_to_the_same_log_are_equal() {
    for plain in all(4, 3) {
        for at in plain.indexes() {
            let mut runs = plain.part(plain.after.index.0, at).runs();
            runs.extend(&plain.part(at, plain.last()).runs());
            assert_eq!(runs, plain.runs(), "in two parts at {at}");
        }
    }
}

#[test]
fn push_adds_entries_of_one_term() {
    for plain in all(3, 3) {
        for (term, count) in [(3, 0), (3, 1), (4, 3)] {
            let (mut runs, mut expected) = (plain.runs(), plain.clone());
            runs.push(Term(term), count);
            expected.terms.extend((0..count).map(|_| term));
            check_same(&runs, &expected);
        }
    }
}

#[test]
fn one_term_is_a_push_on_nothing() {
    let plain = Plain { after: LogId::new(2, 7), terms: vec![3, 3, 3] };
    check_same(&TermRuns::one_term(plain.after, Term(3), 3), &plain);
}

#[test]
fn cut_after_keeps_the_beginning() {
    for plain in all(5, 4) {
        for index in plain.after.index.0..=plain.last() + 1 {
            let mut runs = plain.runs();
            runs.cut_after(LogIndex(index));
            check_same(&runs, &plain.part(plain.after.index.0, index.min(plain.last())));
        }
    }
}

#[test]
fn part_is_what_lies_between() {
    for plain in all(5, 4) {
        for from in plain.indexes() {
            for upto in from..=plain.last() {
                check_same(&plain.runs().part(LogIndex(from), LogIndex(upto)), &plain.part(from, upto));
            }
        }
    }
}

#[test]
fn last_at_most_is_the_last_entry_early_enough() {
    for plain in all(4, 4) {
        for term in 0..=5 {
            for index in plain.after.index.0..=plain.last() + 2 {
                let fits = |at: &u64| *at <= index && plain.term_at(*at).is_some_and(|its| its <= term);
                let expected = plain.indexes().rev().find(fits).map_or(plain.after, |at| plain.id_at(at));
                let found = plain.runs().last_at_most(Term(term), LogIndex(index));
                assert_eq!(found, expected, "term {term}, index {index} in {plain:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "term 1 after 3@2")]
fn terms_never_fall_along_a_log() {
    TermRuns::empty(LogId::new(2, 3)).push(Term(1), 1);
}

#[test]
#[should_panic(expected = "a stretch that begins where the log ends")]
fn a_log_has_no_gap() {
    TermRuns::one_term(LogId::ZERO, Term(1), 3).extend(&TermRuns::one_term(LogId::new(1, 4), Term(1), 1));
}

#[test]
#[should_panic(expected = "but the log begins after 3@2")]
fn what_is_before_the_beginning_cannot_be_cut() {
    TermRuns::one_term(LogId::new(2, 3), Term(2), 1).cut_after(LogIndex(2));
}
