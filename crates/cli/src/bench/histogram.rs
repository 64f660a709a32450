//! A histogram of latencies: exact counts in buckets that are never wider than 1/64 of their values.

use std::time::Duration;

/// Buckets for each power of two, as a power of two.
const SUB_BITS: u32 = 6;
const SUB: usize = 1 << SUB_BITS;
/// Values of 2^43 ns, which is more than two hours, and above share the last bucket.
const VALUE_BITS: u32 = 43;
const BUCKETS: usize = (VALUE_BITS - SUB_BITS + 1) as usize * SUB;

/// Columns of a picture for each doubling of the latency.
const COLUMNS: usize = 8;

/// Latencies in nanoseconds.
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS].into(), count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanos)] += 1;
        self.count += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    /// Forgets all that were counted.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.sum, self.max) = (0, 0, 0);
    }

    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The exact mean; zero if nothing was counted.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos((self.sum / u128::from(self.count.max(1))) as u64)
    }

    /// The exact maximum.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The latency that the given fraction of all did not exceed, rounded up to the end of its bucket.
    pub fn quantile(&self, fraction: f64) -> Duration {
        let rank = ((self.count as f64 * fraction).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(bucket_end(bucket).min(self.max));
            }
        }
        Duration::ZERO
    }

    /// Columns of equal width on a logarithmic scale, [`COLUMNS`] for each doubling: where each begins and ends, and its count; from
    /// the first to the last that is not empty.
    pub fn columns(&self) -> Vec<(Duration, Duration, u64)> {
        let width = SUB / COLUMNS;
        let column = |(place, counts): (usize, &[u64])| {
            let first = place * width;
            let [start, end] = [bucket_start(first), bucket_start(first + width)].map(Duration::from_nanos);
            (start, end, counts.iter().sum())
        };
        let columns: Vec<_> = self.counts.chunks(width).enumerate().map(column).collect();
        let first = columns.iter().position(|(.., count)| *count > 0).unwrap_or(0);
        let end = columns.iter().rposition(|(.., count)| *count > 0).map_or(first, |last| last + 1);
        columns[first..end].to_vec()
    }

    /// Counts between bounds that grow as 1, 2, 5, 10: pairs of upper bound and count, from the first to the last that
    /// is not empty. A bucket that a bound cuts counts below it if its middle does.
    pub fn rows(&self) -> Vec<(Duration, u64)> {
        let bounds = (0..13).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
        let mut rows: Vec<(Duration, u64)> = bounds.map(|bound| (Duration::from_nanos(bound), 0)).collect();
        let last = rows.len() - 1;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let middle = Duration::from_nanos(bucket_end(bucket).midpoint(bucket_start(bucket)));
            let row = rows.partition_point(|(bound, _)| *bound < middle).min(last);
            rows[row].1 += count;
        }
        let first = rows.iter().position(|(_, count)| *count > 0).unwrap_or(0);
        let end = rows.iter().rposition(|(_, count)| *count > 0).map_or(first, |last| last + 1);
        rows[first..end].to_vec()
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min((1 << VALUE_BITS) - 1);
    // Below SUB every value has a bucket of its own; above, the SUB_BITS after the leading one choose it.
    let shift = (nanos | SUB as u64).ilog2() - SUB_BITS;
    shift as usize * SUB + (nanos >> shift) as usize
}

fn bucket_start(bucket: usize) -> u64 {
    let shift = (bucket / SUB).saturating_sub(1);
    ((bucket - shift * SUB) as u64) << shift
}

fn bucket_end(bucket: usize) -> u64 {
    bucket_start(bucket + 1) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let values = (0..10_000).chain((14..43).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 12_345]));
        for nanos in values {
            let bucket = bucket_of(nanos);
            let (start, end) = (bucket_start(bucket), bucket_end(bucket));
            assert!((start..=end).contains(&nanos), "{nanos} not in {start}..={end}");
            assert!(end - start <= nanos / SUB as u64, "{start}..={end} is too wide");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_agree_with_a_sorted_list() {
        let mut histogram = Histogram::default();
        let mut values: Vec<u64> = (0..5_000_u64).map(|n| n.wrapping_mul(2_654_435_761) % 10_000_000).collect();
        values.iter().for_each(|nanos| histogram.record(Duration::from_nanos(*nanos)));
        values.sort_unstable();
        for fraction in [0.0, 0.001, 0.5, 0.95, 0.99, 0.999, 1.0] {
            let rank = ((values.len() as f64 * fraction).ceil() as usize).max(1);
            let (exact, found) = (values[rank - 1] as f64, histogram.quantile(fraction).as_nanos() as f64);
            assert!(found >= exact && found <= exact * 1.02 + 1.0, "{fraction}: {found} instead of {exact}");
        }
        let sum: u64 = values.iter().sum();
        assert_eq!(histogram.mean(), Duration::from_nanos(sum / 5_000));
        assert_eq!(histogram.max().as_nanos() as u64, values[4_999]);
        assert_eq!(histogram.rows().iter().map(|(_, count)| count).sum::<u64>(), 5_000);
        let columns = histogram.columns();
        let counted = |from: Duration, upto: Duration| {
            let within = |nanos: &&u64| (from..upto).contains(&Duration::from_nanos(**nanos));
            values.iter().filter(within).count() as u64
        };
        assert!(columns.iter().all(|(from, upto, count)| counted(*from, *upto) == *count), "{columns:?}");
        assert_eq!(columns.iter().map(|(.., count)| count).sum::<u64>(), 5_000);
        histogram.clear();
        assert_eq!((histogram.count(), histogram.max(), histogram.columns().len()), (0, Duration::ZERO, 0));
    }

    #[test]
    fn an_empty_histogram_has_zeros() {
        let histogram = Histogram::default();
        assert_eq!((histogram.mean(), histogram.quantile(0.5), histogram.max()), Default::default());
        assert!(histogram.rows().is_empty());
    }
}
