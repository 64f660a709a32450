//! Byte strings in order, packed into one piece of memory.
//!
//! Owns how a node of the index finds its place for a key. To copy it is to copy two pieces of memory, however many
//! strings are in it.

use std::cmp::Ordering;

/// Ordered byte strings, each with a number that is its owner's. Equal ones may follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    /// All strings, one behind the other.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// All strings have at least so many bytes in common at their beginning.
    shared: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The four bytes behind those that are shared, zeros where the string ends: most comparisons need no more.
    head: u32,
    /// Where in `bytes` the string ends.
    end: u32,
    number: u32,
}

/// What a string takes up beside its bytes.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

/// How many slots are made room for at once: a node has little to spare, and memory is what an index is short of.
const SLOTS_STEP: usize = 4;
const BYTES_STEP: usize = 32;

/// Makes room for `more`, and a little beyond it if there is none.
pub(super) fn make_room<T>(list: &mut Vec<T>, more: usize, step: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more + step);
    }
}

impl Packed {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    fn start(&self, place: usize) -> usize {
        if place == 0 { 0 } else { self.slots[place - 1].end as usize }
    }

    pub fn get(&self, place: usize) -> &[u8] {
        &self.bytes[self.start(place)..self.slots[place].end as usize]
    }

    pub fn number(&self, place: usize) -> u32 {
        self.slots[place].number
    }

    pub fn set_number(&mut self, place: usize, number: u32) {
        self.slots[place].number = number;
    }

    /// Changes the numbers from a place on.
    pub fn change_numbers(&mut self, from: usize, change: impl Fn(u32) -> u32) {
        self.slots[from..].iter_mut().for_each(|slot| slot.number = change(slot.number));
    }

    /// The first place whose number is greater.
    pub fn place_of_number(&self, number: u32) -> usize {
        self.slots.partition_point(|slot| slot.number <= number)
    }

    /// The first place of a string, or the place where it belongs.
    pub fn find(&self, wanted: &[u8]) -> Result<usize, usize> {
        let shared = self.shared;
        let lead = &wanted[..shared.min(wanted.len())];
        match lead.cmp(&self.bytes[..shared]) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let (head, tail) = (head_of(wanted, shared), &wanted[shared..]);
        let is_before = |place: usize| {
            let slot = self.slots[place].head;
            slot < head || (slot == head && &self.get(place)[shared..] < tail)
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if is_before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let is_it = low < self.len() && self.slots[low].head == head && &self.get(low)[shared..] == tail;
        if is_it { Ok(low) } else { Err(low) }
    }

    pub fn insert(&mut self, place: usize, string: &[u8], number: u32) {
        let start = self.start(place);
        let (old, added) = (self.bytes.len(), string.len());
        make_room(&mut self.bytes, added, BYTES_STEP);
        self.bytes.resize(old + added, 0);
        self.bytes.copy_within(start..old, start + added);
        self.bytes[start..start + added].copy_from_slice(string);
        make_room(&mut self.slots, 1, SLOTS_STEP);
        // The bytes of a node of the index stay far below 4 GiB.
        self.slots.insert(place, Slot { head: 0, end: start as u32, number });
        self.slots[place..].iter_mut().for_each(|slot| slot.end += added as u32);
        // Any other string tells what the new one has in common with all.
        let other = usize::from(place == 0);
        let shared = if self.len() == 1 { added } else { common(string, self.get(other)).min(self.shared) };
        if shared == self.shared {
            self.slots[place].head = head_of(string, shared);
        } else {
            self.shared = shared;
            self.refresh_heads();
        }
    }

    /// Adds a string that is not before any other, for [`Packed::part`] alone: nothing is found until a part is taken.
    pub fn push_last(&mut self, string: &[u8], number: u32) {
        self.bytes.extend_from_slice(string);
        // The bytes of a node of the index stay far below 4 GiB.
        self.slots.push(Slot { head: 0, end: self.bytes.len() as u32, number });
    }

    /// Takes all strings out, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.slots.clear();
        self.shared = 0;
    }

    pub fn remove(&mut self, place: usize) {
        let (start, end) = (self.start(place), self.slots[place].end as usize);
        self.bytes.drain(start..end);
        self.slots.remove(place);
        self.slots[place..].iter_mut().for_each(|slot| slot.end -= (end - start) as u32);
        if self.slots.is_empty() {
            self.shared = 0;
        }
    }

    /// A copy of the strings from `from` up to but without `upto`, without a byte to spare.
    pub fn part(&self, from: usize, upto: usize) -> Self {
        let start = self.start(from);
        let bytes = self.bytes[start..self.start(upto)].to_vec();
        let slots = &self.slots[from..upto];
        let slots = slots.iter().map(|slot| Slot { end: slot.end - start as u32, ..*slot }).collect();
        let mut part = Self { bytes, slots, shared: 0 };
        part.settle();
        part
    }

    /// Adds all strings of another, which are not before its own.
    pub fn append(&mut self, other: &Self) {
        let moved = self.bytes.len() as u32;
        make_room(&mut self.bytes, other.bytes.len(), 0);
        self.bytes.extend_from_slice(&other.bytes);
        make_room(&mut self.slots, other.slots.len(), 0);
        self.slots.extend(other.slots.iter().map(|slot| Slot { end: slot.end + moved, ..*slot }));
        self.settle();
    }

    /// Finds out what all strings have in common: what the first and the last have.
    fn settle(&mut self) {
        self.shared = if self.slots.is_empty() { 0 } else { common(self.get(0), self.get(self.len() - 1)) };
        self.refresh_heads();
    }

    fn refresh_heads(&mut self) {
        for place in 0..self.len() {
            self.slots[place].head = head_of(self.get(place), self.shared);
        }
    }
}

fn head_of(string: &[u8], shared: usize) -> u32 {
    let rest = &string[shared..];
    if let Some(head) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*head);
    }
    let mut head = [0; 4];
    head[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(head)
}

/// How many bytes two strings have in common at their beginning.
pub(super) fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}
