//! The text format of Prometheus.
//!
//! Owns the notation. Must not know what is told.

use std::fmt::{Display, Write};
use std::time::Duration;

use vlot_figures::Distribution;

/// Text in the making.
#[derive(Default)]
pub(super) struct Exposition(pub(super) String);

/// In what durations are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    fn of(self, duration: Duration) -> f64 {
        let nanoseconds = duration.as_nanos() as f64;
        match self {
            Unit::Seconds => nanoseconds / 1e9,
            Unit::Milliseconds => nanoseconds / 1e6,
        }
    }
}

impl Exposition {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.row(name, "", value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.row(name, "", value);
    }

    /// A fact that is a text: it stands in a label, and the value is 1.
    pub(super) fn info(&mut self, name: &str, help: &str, label: &str, fact: &str) {
        self.gauges(name, help, [(labels(&[(label, fact)]), 1)]);
    }

    /// Gauges of one name. Without a row nothing is told of it.
    pub(super) fn gauges<V: Display>(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (String, V)>) {
        self.rows(name, help, "gauge", rows);
    }

    /// Counters of one name. Without a row nothing is told of it.
    pub(super) fn counters<V: Display>(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (String, V)>) {
        self.rows(name, help, "counter", rows);
    }

    fn rows<V: Display>(&mut self, name: &str, help: &str, kind: &str, rows: impl IntoIterator<Item = (String, V)>) {
        let mut has_head = false;
        for (labels, value) in rows {
            if !std::mem::replace(&mut has_head, true) {
                self.head(name, help, kind);
            }
            self.row(name, &labels, value);
        }
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, unit: Unit, found: &Distribution) {
        self.histograms(name, help, unit, [(String::new(), found.clone())]);
    }

    /// Histograms of one name. Without one nothing is told of it.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        rows: impl IntoIterator<Item = (String, Distribution)>,
    ) {
        let mut has_head = false;
        for (labels, Distribution { bounds, counts, sum }) in rows {
            if !std::mem::replace(&mut has_head, true) {
                self.head(name, help, "histogram");
            }
            let (bucket, comma) = (format!("{name}_bucket"), if labels.is_empty() { "" } else { "," });
            let mut upto = 0;
            for (place, count) in counts.iter().enumerate() {
                upto += count;
                match bounds.get(place) {
                    Some(bound) => {
                        let bound = bound_text(unit.of(*bound));
                        self.row(&bucket, &format!("{labels}{comma}le=\"{bound}\""), upto);
                    }
                    None => self.row(&bucket, &format!("{labels}{comma}le=\"+Inf\""), upto),
                }
            }
            self.row(&format!("{name}_sum"), &labels, unit.of(sum));
            self.row(&format!("{name}_count"), &labels, upto);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn row(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}

/// A bound as etcd writes it: as a label it is compared as a text.
fn bound_text(bound: f64) -> String {
    const LONGEST_WITHOUT_EXPONENT: f64 = 1e6;
    if bound < LONGEST_WITHOUT_EXPONENT {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

/// Labels as they stand between the braces.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    });
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use vlot_figures::Histogram;

    use super::*;

    #[test]
    fn a_histogram_is_told_in_buckets_that_add_up() {
        let histogram = Histogram::doubling(Duration::from_micros(500), 2);
        for micros in [1, 700, 900, 5_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = Exposition::default();
        text.histogram("a", "b", Unit::Milliseconds, &histogram.read());
        text.histograms("c", "d", Unit::Seconds, [(labels(&[("x", "y")]), Histogram::with_bounds([]).read())]);
        let expected = [
            "# HELP a b",
            "# TYPE a histogram",
            "a_bucket{le=\"0.5\"} 1",
            "a_bucket{le=\"1\"} 3",
            "a_bucket{le=\"+Inf\"} 4",
            "a_sum 6.601",
            "a_count 4",
            "# HELP c d",
            "# TYPE c histogram",
            "c_bucket{x=\"y\",le=\"+Inf\"} 0",
            "c_sum{x=\"y\"} 0",
            "c_count{x=\"y\"} 0",
        ];
        assert_eq!(text.0.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bounds_are_told_as_short_as_they_were_written() {
        let rows = [(100, "0.0001"), (204_800, "0.2048"), (8_192_000, "8.192"), (52_428_800, "52.4288")];
        for (micros, seconds) in rows {
            assert_eq!(bound_text(Unit::Seconds.of(Duration::from_micros(micros))), seconds);
        }
        assert_eq!([524_288.0, 1_048_576.0].map(bound_text), ["524288", "1.048576e+06"]);
    }

    #[test]
    fn what_a_client_sends_stays_within_its_label() {
        assert_eq!(labels(&[("a", "x\"} 1\n\\")]), r#"a="x\"} 1\n\\""#);
        let mut text = Exposition::default();
        text.counters::<u64>("nothing", "of it", []);
        assert_eq!(text.0, "");
    }
}
