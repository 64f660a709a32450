//! Which ranges hold a key: an ordered tree of ranges that answers in O(log n) plus what it finds.
//!
//! A treap ordered by start and end, each node knowing the furthest end below it. Equal ranges share a node, so that any
//! number of watches on one prefix costs one. Its depth depends on pseudo-random priorities, never on the ranges.

use bytes::Bytes;

use crate::mvcc::key_range::KeyRange;

/// Where a range ends. None has no end and is greater than all.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    Before(Bytes),
    Never,
}

/// Ranges, each with values.
#[derive(Debug)]
pub(super) struct Intervals<T> {
    root: Tree<T>,
    seed: u64,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { root: None, seed: 0 }
    }
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    end: End,
    values: Vec<T>,
    priority: u64,
    furthest: End,
    left: Tree<T>,
    right: Tree<T>,
}

impl<T> Intervals<T> {
    pub fn insert(&mut self, range: &KeyRange, value: T) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let priority = mixed(self.seed);
        let (start, end) = bounds(range);
        self.root = Some(insert(self.root.take(), start, end, value, priority));
    }

    /// Removes the values of one range for which `is_it` holds.
    pub fn remove(&mut self, range: &KeyRange, is_it: impl Fn(&T) -> bool) {
        let (start, end) = bounds(range);
        self.root = remove(self.root.take(), &start, &end, &is_it);
    }

    /// Visits the values of all ranges.
    pub fn visit_all(&self, visit: &mut impl FnMut(&T)) {
        visit_all(&self.root, visit);
    }

    /// Visits the values of all ranges that hold the key.
    pub fn stab<'a>(&'a self, key: &[u8], visit: &mut impl FnMut(&'a T)) {
        stab(&self.root, key, visit);
    }
}

/// Where a range begins and ends.
fn bounds(range: &KeyRange) -> (Bytes, End) {
    match range.clone() {
        KeyRange::Single(key) => {
            let behind = [&key[..], b"\0"].concat();
            (key, End::Before(behind.into()))
        }
        KeyRange::Span { start, end } => (start, End::Before(end)),
        KeyRange::From { start } => (start, End::Never),
    }
}

fn visit_all<T>(tree: &Tree<T>, visit: &mut impl FnMut(&T)) {
    let Some(node) = tree else { return };
    visit_all(&node.left, visit);
    node.values.iter().for_each(&mut *visit);
    visit_all(&node.right, visit);
}

fn mixed(seed: u64) -> u64 {
    let once = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}

fn insert<T>(tree: Tree<T>, start: Bytes, end: End, value: T, priority: u64) -> Box<Node<T>> {
    let Some(mut node) = tree else {
        let furthest = end.clone();
        return Box::new(Node { start, end, values: vec![value], priority, furthest, left: None, right: None });
    };
    match (&start, &end).cmp(&(&node.start, &node.end)) {
        std::cmp::Ordering::Equal => node.values.push(value),
        std::cmp::Ordering::Less => {
            let mut left = insert(node.left.take(), start, end, value, priority);
            if left.priority > node.priority {
                node.left = left.right.take();
                left.right = Some(settled(node));
                return settled(left);
            }
            node.left = Some(left);
        }
        std::cmp::Ordering::Greater => {
            let mut right = insert(node.right.take(), start, end, value, priority);
            if right.priority > node.priority {
                node.right = right.left.take();
                right.left = Some(settled(node));
                return settled(right);
            }
            node.right = Some(right);
        }
    }
    settled(node)
}

fn remove<T>(tree: Tree<T>, start: &Bytes, end: &End, is_it: &impl Fn(&T) -> bool) -> Tree<T> {
    let mut node = tree?;
    match (start, end).cmp(&(&node.start, &node.end)) {
        std::cmp::Ordering::Equal => {
            node.values.retain(|value| !is_it(value));
            if node.values.is_empty() {
                return joined(node.left.take(), node.right.take());
            }
        }
        std::cmp::Ordering::Less => node.left = remove(node.left.take(), start, end, is_it),
        std::cmp::Ordering::Greater => node.right = remove(node.right.take(), start, end, is_it),
    }
    Some(settled(node))
}

fn joined<T>(left: Tree<T>, right: Tree<T>) -> Tree<T> {
    match (left, right) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(mut right)) => Some(if left.priority > right.priority {
            left.right = joined(left.right.take(), Some(right));
            settled(left)
        } else {
            right.left = joined(Some(left), right.left.take());
            settled(right)
        }),
    }
}

/// The node with its `furthest` made good.
fn settled<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let below = [&node.left, &node.right].into_iter().flatten().map(|child| &child.furthest);
    let furthest = below.chain([&node.end]).max().expect("there is at least the node's own end").clone();
    node.furthest = furthest;
    node
}

fn stab<'a, T>(tree: &'a Tree<T>, key: &[u8], visit: &mut impl FnMut(&'a T)) {
    let Some(node) = tree else { return };
    let is_before = |end: &End| matches!(end, End::Before(end) if &end[..] <= key);
    if is_before(&node.furthest) {
        return;
    }
    stab(&node.left, key, visit);
    if &node.start[..] > key {
        return;
    }
    if !is_before(&node.end) {
        node.values.iter().for_each(&mut *visit);
    }
    stab(&node.right, key, visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_list_of_ranges_finds() {
        let mut tree = Intervals::default();
        let mut list: Vec<(KeyRange, u64)> = Vec::new();
        let mut noise = 7;
        for round in 0..3_000u64 {
            noise = mixed(noise + round);
            let letter = |shift: u64| Bytes::from(vec![b'a' + ((noise >> shift) % 20) as u8]);
            if noise.is_multiple_of(3) && !list.is_empty() {
                let (range, value) = list.swap_remove((noise >> 8) as usize % list.len());
                tree.remove(&range, |other| *other == value);
            } else {
                let range_end = match noise % 14 {
                    0 | 7 => Bytes::from_static(b"\0"),
                    1 => Bytes::new(),
                    _ => letter(24),
                };
                let range = KeyRange::of(&letter(16), &range_end);
                tree.insert(&range, round);
                list.push((range, round));
            }
            let key = letter(40);
            let mut found = Vec::new();
            tree.stab(&key, &mut |value| found.push(*value));
            let mut expected: Vec<u64> =
                list.iter().filter(|(range, _)| range.contains(&key)).map(|(_, value)| *value).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
