//! The nodes of the index: a B+tree of versions, ordered by key and revision.
//!
//! Owns how nodes are split, joined and copied. A node is shared by all views that have seen it and is copied before it
//! is changed while another holds it; a leaf holds nothing that counts references, so that its copy is three pieces of
//! memory. Must not know what a version means.
//!
//! Invariants: only the root may be empty. All that is in or below a child is at or after the bound before it, and before
//! the bound behind it. The versions of a key leave oldest first: a look-up never has to go back to the leaf before.

use std::sync::Arc;

pub(super) use super::packed::SLOT_BYTES;
use super::packed::{Packed, common, make_room};
use super::version::Version;
use crate::mvcc::revision::Revision;

/// A leaf with more versions is split.
const LEAF_VERSIONS_MAX: usize = 80;
/// A leaf with more bytes of keys is split, if it has two.
const LEAF_BYTES_MAX: usize = 8 << 10;
/// A node with more children is split. To copy one is to count a reference to each child.
const CHILDREN_MAX: usize = 48;
const VERSIONS_STEP: usize = 4;
/// How much of its room is taken in a node that is built from many at once: the first keys that come later are not to split
/// each leaf.
const FILLED: (usize, usize) = (3, 4);

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Keys, each with a run of versions. A key whose versions reach into the next leaf is in both.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    /// A key's number is where its versions end.
    keys: Packed,
    versions: Vec<Version>,
}

#[derive(Clone, Debug)]
pub(super) struct Inner {
    /// The keys of the bounds between the children.
    bounds: Packed,
    /// Their revisions.
    revisions: Vec<Revision>,
    children: Vec<Arc<Node>>,
}

/// So much of a node's room, and no more, is taken when it is built.
const fn filled(max: usize) -> usize {
    max * FILLED.0 / FILLED.1
}

/// The place between two nodes.
pub(super) type Bound<'a> = (&'a [u8], Revision);

/// What a node has given away because it was too large.
pub(super) struct Split {
    key: Vec<u8>,
    revision: Revision,
    right: Arc<Node>,
}

impl Leaf {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn key(&self, place: usize) -> &[u8] {
        self.keys.get(place)
    }

    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.keys.find(key)
    }

    fn start(&self, place: usize) -> usize {
        if place == 0 { 0 } else { self.keys.number(place - 1) as usize }
    }

    pub fn versions(&self, place: usize) -> &[Version] {
        &self.versions[self.start(place)..self.keys.number(place) as usize]
    }

    pub fn versions_of(&self, key: &[u8]) -> &[Version] {
        self.find(key).map_or(&[], |place| self.versions(place))
    }

    fn push(&mut self, key: &[u8], make: impl FnOnce(Option<&Version>) -> Version) -> Option<Split> {
        let found = self.keys.find(key);
        let place = found.unwrap_or_else(|place| place);
        let version = make(found.ok().and_then(|place| self.versions(place).last()));
        let at = found.map_or_else(|place| self.start(place), |place| self.keys.number(place) as usize);
        if found.is_err() {
            self.keys.insert(place, key, at as u32);
        }
        make_room(&mut self.versions, 1, VERSIONS_STEP);
        self.versions.insert(at, version);
        self.keys.change_numbers(place, |end| end + 1);
        let is_large = self.keys.bytes_len() > LEAF_BYTES_MAX && self.len() > 1;
        (is_large || self.versions.len() > LEAF_VERSIONS_MAX).then(|| self.split(at))
    }

    /// Gives away about half. What grows at its end is cut there: keys that come in order leave full leaves behind.
    fn split(&mut self, pushed: usize) -> Split {
        let all = self.versions.len();
        let at = if pushed + 1 == all { pushed } else { self.near_a_key(all / 2) };
        let right = self.part(at, all);
        *self = self.part(0, at);
        let (key, revision) = self.bound_before(&right);
        Split { key, revision, right: Arc::new(Node::Leaf(right)) }
    }

    /// The bound between this leaf and the one behind it.
    fn bound_before(&self, right: &Self) -> (Vec<u8>, Revision) {
        let (before, after) = (self.key(self.len() - 1), right.key(0));
        if before == after {
            (after.to_vec(), right.versions[0].revision())
        } else {
            // As short as it may be and still be behind all keys on the left.
            (after[..=common(before, after)].to_vec(), Revision::default())
        }
    }

    /// The last key, and its newest version.
    pub fn last(&self) -> Option<(&[u8], &Version)> {
        Some((self.key(self.len().checked_sub(1)?), self.versions.last()?))
    }

    /// Whether a leaf that is built has as much as it should, were a key of so many bytes to come.
    pub fn is_filled(&self, key_bytes: usize) -> bool {
        let is_large = self.len() > 0 && self.keys.bytes_len() + key_bytes > filled(LEAF_BYTES_MAX);
        is_large || self.versions.len() >= filled(LEAF_VERSIONS_MAX)
    }

    /// Adds a version that is after all others. What the keys have in common is found out when the leaf is taken.
    pub fn push_last(&mut self, key: &[u8], version: Version) {
        self.versions.push(version);
        let end = self.versions.len() as u32;
        match self.len().checked_sub(1).filter(|last| self.key(*last) == key) {
            Some(last) => self.keys.set_number(last, end),
            None => self.keys.push_last(key, end),
        }
    }

    /// What was built, without a byte to spare. Leaves the leaf empty, with its memory.
    pub fn take_filled(&mut self) -> Self {
        let taken = Self { keys: self.keys.part(0, self.len()), versions: self.versions.clone() };
        self.keys.clear();
        self.versions.clear();
        taken
    }

    /// The place nearby where another key begins, if there is one.
    fn near_a_key(&self, at: usize) -> usize {
        let place = self.keys.place_of_number(at as u32);
        let (start, end) = (self.start(place), self.keys.number(place) as usize);
        let quarter = self.versions.len() / 4;
        if start >= quarter.max(1) {
            start
        } else if end <= self.versions.len() - quarter.max(1) {
            end
        } else {
            at
        }
    }

    /// A copy of the versions from `from` up to but without `upto`, which is more than none.
    fn part(&self, from: usize, upto: usize) -> Self {
        let (first, last) = (self.keys.place_of_number(from as u32), self.keys.place_of_number(upto as u32 - 1));
        let mut keys = self.keys.part(first, last + 1);
        keys.change_numbers(0, |end| end.min(upto as u32) - from as u32);
        Self { keys, versions: self.versions[from..upto].to_vec() }
    }

    /// Takes out versions of a key, the oldest here first, up to and with a revision.
    fn remove(&mut self, key: &[u8], upto: Revision) {
        let Ok(place) = self.keys.find(key) else { return };
        let start = self.start(place);
        let count = self.versions(place).partition_point(|version| version.revision() <= upto);
        self.versions.drain(start..start + count);
        self.keys.change_numbers(place, |end| end - count as u32);
        if self.versions(place).is_empty() {
            self.keys.remove(place);
        }
    }

    fn append(&mut self, later: &Self) {
        let moved = self.versions.len() as u32;
        make_room(&mut self.versions, later.versions.len(), 0);
        self.versions.extend_from_slice(&later.versions);
        let mut keys = later.keys.clone();
        keys.change_numbers(0, |end| end + moved);
        if self.len() > 0 && self.key(self.len() - 1) == later.key(0) {
            self.keys.set_number(self.len() - 1, keys.number(0));
            keys.remove(0);
        }
        self.keys.append(&keys);
    }
}

impl Inner {
    /// The node over some children that follow each other.
    fn over(children: &[Arc<Node>]) -> Self {
        let (mut bounds, mut revisions) = (Packed::default(), Vec::with_capacity(children.len() - 1));
        for (left, right) in children.iter().zip(&children[1..]) {
            let (key, revision) = left.last_leaf().bound_before(right.first_leaf());
            bounds.push_last(&key, 0);
            revisions.push(revision);
        }
        Self { bounds: bounds.part(0, bounds.len()), revisions, children: children.to_vec() }
    }

    fn bound(&self, place: usize) -> Bound<'_> {
        (self.bounds.get(place), self.revisions[place])
    }

    /// The child in whose range this version is or would be.
    fn place_of(&self, key: &[u8], revision: Revision) -> usize {
        let mut place = self.bounds.find(key).unwrap_or_else(|place| place);
        while place < self.bounds.len() && self.bounds.get(place) == key && self.revisions[place] <= revision {
            place += 1;
        }
        place
    }

    fn take_in(&mut self, place: usize, split: Split) -> Option<Split> {
        self.bounds.insert(place, &split.key, 0);
        self.revisions.insert(place, split.revision);
        self.children.insert(place + 1, split.right);
        let all = self.children.len();
        (all > CHILDREN_MAX).then(|| {
            // As with leaves: what grows at its end is cut there.
            let at = if place + 2 == all { all - 2 } else { all / 2 };
            let (key, revision) = self.bound(at - 1);
            let (key, right) = (key.to_vec(), self.part(at, all));
            *self = self.part(0, at);
            Split { key, revision, right: Arc::new(Node::Inner(right)) }
        })
    }

    fn part(&self, from: usize, upto: usize) -> Self {
        Self {
            bounds: self.bounds.part(from, upto - 1),
            revisions: self.revisions[from..upto - 1].to_vec(),
            children: self.children[from..upto].to_vec(),
        }
    }

    /// Removes the bound before or behind a child together with the child.
    fn remove_child(&mut self, place: usize) {
        self.children.remove(place);
        if self.bounds.len() > 0 {
            let bound = place.saturating_sub(1);
            self.bounds.remove(bound);
            self.revisions.remove(bound);
        }
    }

    /// Joins a child that has become small with a neighbour, if both find room in one node.
    fn settle(&mut self, place: usize) {
        if self.children[place].is_empty() {
            self.remove_child(place);
            return;
        }
        let left = if place + 1 < self.children.len() { Some(place) } else { place.checked_sub(1) };
        let Some(left) = left.filter(|_| self.children[place].is_small()) else { return };
        if !self.children[left].has_room_for(&self.children[left + 1]) {
            return;
        }
        let right = self.children.remove(left + 1);
        let (key, revision) = (self.bounds.get(left).to_vec(), self.revisions.remove(left));
        self.bounds.remove(left);
        match (Arc::make_mut(&mut self.children[left]), &*right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.append(right),
            (Node::Inner(left), Node::Inner(right)) => left.append(&key, revision, right),
            _ => unreachable!("all leaves are equally deep"),
        }
    }

    fn append(&mut self, key: &[u8], revision: Revision, later: &Self) {
        self.bounds.insert(self.bounds.len(), key, 0);
        self.bounds.append(&later.bounds);
        self.revisions.push(revision);
        self.revisions.extend_from_slice(&later.revisions);
        self.children.extend(later.children.iter().cloned());
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.versions.is_empty(),
            Self::Inner(inner) => inner.children.is_empty(),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.versions.len() < LEAF_VERSIONS_MAX / 4,
            Self::Inner(inner) => inner.children.len() < CHILDREN_MAX / 4,
        }
    }

    /// Whether it can take in its neighbour and some more.
    fn has_room_for(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                let bytes = left.keys.bytes_len() + right.keys.bytes_len();
                left.versions.len() + right.versions.len() <= LEAF_VERSIONS_MAX * 3 / 4 && bytes < LEAF_BYTES_MAX
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.children.len() + right.children.len() <= CHILDREN_MAX * 3 / 4
            }
            _ => false,
        }
    }

    /// The leaf in whose range this version is or would be, and the bound behind the leaf.
    pub fn leaf<'a>(&'a self, key: &[u8], revision: Revision) -> (&'a Leaf, Option<Bound<'a>>) {
        let mut node = self;
        let mut behind = None;
        loop {
            match node {
                Self::Leaf(leaf) => return (leaf, behind),
                Self::Inner(inner) => {
                    let place = inner.place_of(key, revision);
                    if place < inner.bounds.len() {
                        behind = Some(inner.bound(place));
                    }
                    node = &inner.children[place];
                }
            }
        }
    }

    /// Adds the newest version of a key, made from the one before it.
    pub fn push(&mut self, key: &[u8], make: impl FnOnce(Option<&Version>) -> Version) -> Option<Split> {
        match self {
            Self::Leaf(leaf) => leaf.push(key, make),
            Self::Inner(inner) => {
                let place = inner.place_of(key, Revision::MAX);
                let split = Arc::make_mut(&mut inner.children[place]).push(key, make)?;
                inner.take_in(place, split)
            }
        }
    }

    /// The root of a tree over these leaves, which are in order. None if there are none.
    pub fn over(mut nodes: Vec<Arc<Self>>) -> Option<Arc<Self>> {
        while nodes.len() > 1 {
            // About equally many children for each: none of the nodes is small.
            let above = nodes.len().div_ceil(filled(CHILDREN_MAX));
            let share = nodes.len().div_ceil(above);
            nodes = nodes.chunks(share).map(|children| Arc::new(Self::Inner(Inner::over(children)))).collect();
        }
        nodes.pop()
    }

    fn first_leaf(&self) -> &Leaf {
        match self {
            Self::Leaf(leaf) => leaf,
            Self::Inner(inner) => inner.children[0].first_leaf(),
        }
    }

    fn last_leaf(&self) -> &Leaf {
        match self {
            Self::Leaf(leaf) => leaf,
            Self::Inner(inner) => inner.children[inner.children.len() - 1].last_leaf(),
        }
    }

    /// Visits all leaves in order, until one fails.
    pub fn visit_leaves<E>(&self, visit: &mut impl FnMut(&Leaf) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Leaf(leaf) => visit(leaf),
            Self::Inner(inner) => inner.children.iter().try_for_each(|child| child.visit_leaves(visit)),
        }
    }

    /// The root above a root that was split.
    pub fn above(left: Arc<Self>, split: Split) -> Self {
        let mut bounds = Packed::default();
        bounds.insert(0, &split.key, 0);
        Self::Inner(Inner { bounds, revisions: vec![split.revision], children: vec![left, split.right] })
    }

    /// Takes versions of a key out of the leaf that has the one at `first`: all there up to and with `upto`.
    pub fn remove(&mut self, key: &[u8], first: Revision, upto: Revision) {
        match self {
            Self::Leaf(leaf) => leaf.remove(key, upto),
            Self::Inner(inner) => {
                let place = inner.place_of(key, first);
                Arc::make_mut(&mut inner.children[place]).remove(key, first, upto);
                inner.settle(place);
            }
        }
    }

    /// The only child of an inner node, which can take its place.
    pub fn only_child(&self) -> Option<Arc<Self>> {
        match self {
            Self::Inner(inner) if inner.children.len() == 1 => Some(Arc::clone(&inner.children[0])),
            _ => None,
        }
    }

    /// Whether nothing is left in it.
    pub fn is_hollow(&self) -> bool {
        matches!(self, Self::Inner(inner) if inner.children.is_empty())
    }
}
