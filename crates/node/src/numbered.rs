//! Values by their numbers, where most have a greater number than all before, and most go in the order in which they came.
//!
//! Owns how one is found without a tree: in a ring that is sorted by number, in which what has gone leaves a gap for a while.

use std::collections::VecDeque;

/// Gaps that are left in any case.
const GAPS_MIN: usize = 64;

/// Values by their numbers.
///
/// Invariant: numbers rise; the first slot is no gap; there are at most 64 gaps more than values.
#[derive(Debug)]
pub struct Numbered<T> {
    slots: VecDeque<(u64, Option<T>)>,
    count: usize,
    /// Where the slot is that came after the last that was taken: likely the next to be asked for.
    next: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), count: 0, next: 0 }
    }
}

impl<T> Numbered<T> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a value under a number, in the place of the one that is there.
    pub fn insert(&mut self, number: u64, value: T) {
        let at = match self.slots.back() {
            Some(&(last, _)) if last >= number => self.slots.partition_point(|&(other, _)| other < number),
            _ => self.slots.len(),
        };
        match self.slots.get_mut(at).filter(|(other, _)| *other == number) {
            Some((_, slot)) => self.count += usize::from(slot.replace(value).is_none()),
            None => {
                self.slots.insert(at, (number, Some(value)));
                self.count += 1;
            }
        }
    }

    /// The value of this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        self.slots[self.find(number)?].1.as_ref()
    }

    /// As [`Numbered::get`], to be changed.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.find(number)?;
        self.slots[at].1.as_mut()
    }

    /// Takes the value of this number.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.find(number)?;
        let value = self.slots[at].1.take()?;
        self.count -= 1;
        self.next = at + 1;
        while self.slots.pop_front_if(|(_, value)| value.is_none()).is_some() {
            self.next = self.next.saturating_sub(1);
        }
        // One that stays for long must not keep the gaps of all that came and went after it.
        if self.slots.len() - self.count > self.count + GAPS_MIN {
            self.slots.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    /// All values in the order of their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    /// Takes all values that are such, in the order of their numbers.
    pub fn take_if(&mut self, mut is_such: impl FnMut(&T) -> bool) -> Vec<T> {
        let taken: Vec<T> =
            self.slots.iter_mut().filter_map(|(_, slot)| slot.take_if(|value| is_such(value))).collect();
        if !taken.is_empty() {
            self.count -= taken.len();
            self.slots.retain(|(_, value)| value.is_some());
        }
        taken
    }

    /// The values of this number and of greater ones, in their order, to be changed.
    pub fn iter_mut_from(&mut self, number: u64) -> impl Iterator<Item = (u64, &mut T)> {
        let begin = self.slots.partition_point(|&(other, _)| other < number);
        self.slots.range_mut(begin..).filter_map(|(number, value)| Some((*number, value.as_mut()?)))
    }

    /// All numbers in their order; their values are forgotten.
    pub fn take_numbers(&mut self) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(self.count);
        numbers.extend(self.slots.drain(..).filter_map(|(number, value)| value.map(|_| number)));
        self.count = 0;
        numbers
    }

    /// Where the slot with this number is.
    fn find(&self, number: u64) -> Option<usize> {
        if self.slots.get(self.next).is_some_and(|&(other, _)| other == number) {
            return Some(self.next);
        }
        self.slots.binary_search_by_key(&number, |&(other, _)| other).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Does the same to a map, and compares.
    #[test]
    fn it_is_a_map() {
        let (mut numbered, mut map) = (Numbered::default(), BTreeMap::new());
        let mut chance = 7_u64;
        let mut draw = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (chance >> 33) % below
        };
        for n in 0..20_000 {
            // Mostly new and old ones, now and then one in between or one that is not there.
            let number = match draw(4) {
                0 => n,
                1 => map.first_key_value().map_or(n, |(&first, _)| first),
                _ => draw(n + 2),
            };
            match draw(5) {
                0 | 1 => {
                    numbered.insert(number, n);
                    map.insert(number, n);
                }
                2 => assert_eq!(numbered.get_mut(number), map.get_mut(&number)),
                _ => assert_eq!(numbered.remove(number), map.remove(&number)),
            }
            assert_eq!((numbered.len(), numbered.get(number)), (map.len(), map.get(&number)));
            if n % 1000 == 0 {
                let taken = numbered.take_if(|value| value % 3 == 0);
                assert_eq!(
                    taken,
                    map.extract_if(.., |_, value| *value % 3 == 0).map(|(_, value)| value).collect::<Vec<_>>()
                );
                assert!(numbered.values().eq(map.values()));
            }
        }
        for from in [0, 5_000, 19_999, u64::MAX] {
            let those: Vec<(u64, u64)> = numbered.iter_mut_from(from).map(|(number, value)| (number, *value)).collect();
            assert_eq!(those, map.range(from..).map(|(number, value)| (*number, *value)).collect::<Vec<_>>());
        }
        assert_eq!(numbered.take_numbers(), map.into_keys().collect::<Vec<_>>());
        assert_eq!((numbered.len(), numbered.get(3)), (0, None));
    }

    #[test]
    fn one_that_stays_does_not_keep_the_place_of_those_that_went() {
        let mut numbered = Numbered::default();
        for number in 0..100_000 {
            numbered.insert(number, ());
            if number > 0 {
                numbered.remove(number);
            }
            assert!(numbered.slots.len() <= 2 + GAPS_MIN + 1, "{}", numbered.slots.len());
        }
        assert_eq!(numbered.take_numbers(), [0]);
    }
}
