//! What a majority of voters agrees on (Raft §5.2, §5.3).
//!
//! One rule serves votes, commitment, leadership checks and reads: sort what each voter has reached, and take what a
//! majority has reached at least. Knows nothing of what the values mean.

/// How many voters of `count` are more than half.
#[must_use]
pub fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// The greatest value that a majority has reached, of one value a voter. `None` when there are no voters: an empty set
/// has no quorum.
#[must_use]
pub fn reached<T: Copy + Ord>(mut values: impl Iterator<Item = T>) -> Option<T> {
    // Up to seven voters, which is nearly every group, need no allocation.
    let mut few = [values.next()?; 7];
    let mut count = 1;
    for place in &mut few[1..] {
        let Some(value) = values.next() else { break };
        *place = value;
        count += 1;
    }
    match values.next() {
        None => of_majority(&mut few[..count]),
        Some(eighth) => of_majority(&mut few.into_iter().chain([eighth]).chain(values).collect::<Vec<T>>()),
    }
}

fn of_majority<T: Copy + Ord>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    let below_majority = values.len().checked_sub(majority(values.len()))?;
    values.get(below_majority).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_majority_has_reached() {
        let table: [(&[u64], Option<u64>); 9] = [
            (&[], None),
            (&[7], Some(7)),
            (&[7, 3], Some(3)),
            (&[5, 3, 9], Some(5)),
            (&[5, 0, 0], Some(0)),
            (&[1, 2, 3, 4], Some(2)),
            (&[4, 4, 1, 1, 4], Some(4)),
            (&[7, 6, 5, 4, 3, 2, 1], Some(4)),
            (&[8, 7, 6, 5, 4, 3, 2, 1, 0], Some(4)),
        ];
        for (values, expected) in table {
            assert_eq!(reached(values.iter().copied()), expected, "{values:?}");
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
