//! Rng: numbers drawn from a seed.
//!
//! Owns the generator (splitmix64) and the few distributions that the simulator draws from. Integers only, so that a
//! seed means the same on every machine.

use crate::agenda::Span;

/// A source of numbers that gives the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The source for a purpose. Purposes of one seed draw independently: one more draw for one of them changes nothing
    /// for the others.
    #[must_use]
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(mixed.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if that is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// A number in `[from, upto)`; `from` if that is empty.
    pub fn between(&mut self, from: u64, upto: u64) -> u64 {
        from + self.below(upto.saturating_sub(from))
    }

    /// True so many times of a million.
    pub fn happens(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }

    /// True half of the time.
    pub fn coin(&mut self) -> bool {
        self.draw() & 1 == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A span in `[from, upto)`.
    pub fn span(&mut self, from: Span, upto: Span) -> Span {
        Span(self.between(from.0, upto.0))
    }

    /// A span that is `typical` on average, mostly shorter, and now and then several times as long.
    pub fn skewed(&mut self, typical: Span) -> Span {
        let times = 1 << self.draw().trailing_ones().min(3);
        Span(self.below(typical.0) * times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_of_a_seed_differ_and_repeat() {
        let draws = |purpose| {
            let mut rng = Rng::new(7, purpose);
            [rng.draw(), rng.draw(), rng.draw()]
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn skewed_spans_are_typical_on_average() {
        let mut rng = Rng::new(1, 1);
        let sum: u64 = (0..10_000).map(|_| rng.skewed(Span(1000)).0).sum();
        assert!((900..1500).contains(&(sum / 10_000)), "{}", sum / 10_000);
    }
}
