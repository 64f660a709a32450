//! Bytes on their way to the disk, in memory from which a disk takes them by itself.
//!
//! Owns where they begin. Must not know what they are.

use std::ops::{Deref, DerefMut};

/// Where memory must begin that a disk reads by itself: enough for any.
const ALIGNED_BYTES: usize = 4096;

/// Bytes that begin at a multiple of 4096 in memory, however many they become.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    /// They are behind what is missing to where they may begin. It is never extended beyond its capacity, which would move it.
    memory: Vec<u8>,
    begin: usize,
}

/// Whether a disk can take these from where they are.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNED_BYTES)
}

impl AlignedBytes {
    /// Takes all bytes out, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.memory.truncate(self.begin);
    }

    /// How much memory is kept.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Makes them so many: cuts them, or adds zeros.
    pub(crate) fn resize(&mut self, length: usize) {
        self.reserve(length.saturating_sub(self.len()));
        self.memory.resize(self.begin + length, 0);
    }

    /// Finds room for so many more, elsewhere if need be.
    pub(crate) fn reserve(&mut self, more: usize) {
        if self.memory.capacity() - self.memory.len() >= more {
            return;
        }
        let mut memory = Vec::<u8>::with_capacity((self.len() + more).max(2 * self.len()) + ALIGNED_BYTES);
        let place = memory.as_ptr().addr();
        let begin = place.next_multiple_of(ALIGNED_BYTES) - place;
        memory.resize(begin, 0);
        memory.extend_from_slice(self);
        *self = Self { memory, begin };
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.begin..]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_list_of_bytes_that_stays_aligned() {
        let (mut aligned, mut plain) = (AlignedBytes::default(), Vec::new());
        for n in 0..2000_usize {
            match n % 7 {
                0 if n % 3 == 0 => {
                    aligned.clear();
                    plain.clear();
                }
                1 => {
                    aligned.resize(n * 5);
                    plain.resize(n * 5, 0);
                }
                2 => aligned.reserve(n * 30),
                _ => {
                    aligned.extend_from_slice(&[n as u8; 300]);
                    plain.extend_from_slice(&[n as u8; 300]);
                }
            }
            assert_eq!(aligned[..], plain[..]);
            assert!(aligned.is_empty() || is_aligned(&aligned), "after step {n}");
        }
    }
}
