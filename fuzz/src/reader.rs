//! Takes what a run needs out of the bytes that it is given.
//!
//! Numbers are small or near to what a run already has, so that a run goes deep, and now and then huge.

#![allow(dead_code, reason = "each target and each test uses a part of it")]

/// Numbers at which arithmetic goes wrong.
const HUGE: [u64; 8] = [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 33, 1 << 32, u32::MAX as u64, 1 << 20];
/// How far from where a run is its numbers mostly are.
const STEPS: [i64; 8] = [0, 1, -1, 2, -2, 3, -3, 5];

/// Bytes, read from the front. Once they are used up, everything is zero.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all is used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next `count` bytes, or as many as there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number below `bound`, which is at most 256 and not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Any of these; the first when nothing is left.
    pub fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A small number, now and then a huge one.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=247 => u64::from(small % 8),
            huge => HUGE[usize::from(huge - 248)],
        }
    }

    /// A number near this one, now and then another.
    pub fn near(&mut self, base: u64) -> u64 {
        match self.byte() {
            step @ 0..=223 => base.saturating_add_signed(STEPS[usize::from(step % 8)]),
            other @ 224..=247 => u64::from(other - 224),
            huge => HUGE[usize::from(huge - 248)],
        }
    }
}
