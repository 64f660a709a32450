//! What a majority of voters agrees on (Raft §5.2, §5.3).
//!
//! One rule serves votes, commitment, leadership checks and reads: sort what each voter has reached, and take what a
//! majority has reached at least. Knows nothing of what the values mean.

use crate::id::NodeId;

/// How many voters of `count` are more than half.
#[must_use]
pub fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// The greatest value that a majority of `voters` has reached. `None` when there are no voters: nobody decides nothing.
#[must_use]
pub fn reached<T: Copy + Ord>(voters: &[NodeId], value_of: impl Fn(NodeId) -> T) -> Option<T> {
    // Up to seven voters, which is nearly every group, need no allocation.
    let mut few;
    let mut many;
    let values: &mut [T] = if let (Some(&first), true) = (voters.first(), voters.len() <= 7) {
        few = [value_of(first); 7];
        for (value, &voter) in few.iter_mut().zip(voters) {
            *value = value_of(voter);
        }
        &mut few[..voters.len()]
    } else {
        many = voters.iter().map(|&voter| value_of(voter)).collect::<Vec<T>>();
        &mut many
    };
    values.sort_unstable();
    let below_majority = voters.len().checked_sub(majority(voters.len()))?;
    values.get(below_majority).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_majority_has_reached() {
        let table: [(&[u64], Option<u64>); 8] = [
            (&[], None),
            (&[7], Some(7)),
            (&[7, 3], Some(3)),
            (&[5, 3, 9], Some(5)),
            (&[5, 0, 0], Some(0)),
            (&[1, 2, 3, 4], Some(2)),
            (&[4, 4, 1, 1, 4], Some(4)),
            (&[8, 7, 6, 5, 4, 3, 2, 1, 0], Some(4)),
        ];
        for (values, expected) in table {
            let voters: Vec<NodeId> = (0..values.len() as u64).map(NodeId).collect();
            assert_eq!(reached(&voters, |n| values[n.0 as usize]), expected, "{values:?}");
        }
    }

    #[test]
    fn two_majorities_share_a_voter() {
        for count in 1..=7 {
            assert!(2 * majority(count) > count, "{count} voters");
            assert!(2 * (majority(count) - 1) <= count, "{count} voters: no more than needed");
        }
    }
}
