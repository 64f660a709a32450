//! What a node tells under `/metrics`, read as Prometheus reads it.

use std::collections::BTreeMap;

use super::http::fetch;

/// Metrics as they were told at one moment.
#[derive(Debug, Default)]
pub struct Exposition {
    pub content_type: String,
    /// Counter, gauge, histogram or summary, by name.
    pub kinds: BTreeMap<String, String>,
    /// Values, by name and labels. A histogram's are those of its buckets, sum and count.
    pub samples: BTreeMap<Series, f64>,
}

/// What a sample is of: a name, and labels in the order of theirs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

impl Series {
    pub fn of(name: &str, labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        Series { name: name.to_owned(), labels }
    }
}

impl Exposition {
    /// Asks a node.
    ///
    /// # Panics
    /// If what it says is not what Prometheus reads.
    pub fn of(port: u16) -> Exposition {
        let reply = fetch(port, "/metrics").expect("the node answers");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        let content_type =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned));
        let body =
            if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        let mut exposition = Exposition { content_type: content_type.unwrap_or_default(), ..Exposition::default() };
        for line in body.lines().filter(|line| !line.is_empty()) {
            exposition.read(line);
        }
        exposition.check_histograms();
        exposition
    }

    fn read(&mut self, line: &str) {
        if let Some(introduced) = line.strip_prefix("# TYPE ") {
            let (name, kind) = introduced.split_once(' ').expect("a name and its kind");
            let before = self.kinds.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} is introduced twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let series = read_series(series);
            assert!(self.kind_of(&series.name).is_some(), "{line} was not introduced");
            let before = self.samples.insert(series, value);
            assert_eq!(before, None, "{line} is told twice");
        }
    }

    /// The kind of what a sample belongs to.
    pub fn kind_of(&self, sample: &str) -> Option<(&str, &str)> {
        let found = |name: &str| self.kinds.get_key_value(name).map(|(name, kind)| (name.as_str(), kind.as_str()));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| found(sample.strip_suffix(suffix)?));
        histogram.filter(|(_, kind)| ["histogram", "summary"].contains(kind)).or_else(|| found(sample))
    }

    /// Buckets add up, and end with all.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.samples {
            let Some(name) = series.name.strip_suffix("_bucket") else { continue };
            let mut labels = series.labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound").parse().expect("a bound is a number");
            let histogram = Series { name: name.to_owned(), labels };
            buckets.entry(histogram).or_default().push((bound, *value));
        }
        for (Series { name, labels }, mut buckets) in buckets {
            buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
            assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{name} {labels:?} adds up: {buckets:?}");
            let (bound, count) = buckets.last().expect("there is one");
            let told = self.samples.get(&Series { name: format!("{name}_count"), labels: labels.clone() });
            assert_eq!((*bound, told), (f64::INFINITY, Some(count)), "{name} {labels:?}");
            assert!(self.samples.contains_key(&Series { name: format!("{name}_sum"), labels }), "{name}");
        }
    }

    /// The value of a series; zero if it is not told.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples.get(&Series::of(name, labels)).copied().unwrap_or(0.0)
    }

    /// The sum over all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|(series, _)| series.name == name).map(|(_, value)| value).sum()
    }
}

fn read_series(text: &str) -> Series {
    let Some((name, rest)) = text.split_once('{') else { return Series::of(text, &[]) };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}').expect("braces match");
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect("a label has a value");
        let end = end_of_value(quoted);
        labels.insert(label.trim_start_matches(',').to_owned(), quoted[..end].to_owned());
        rest = &quoted[end + 1..];
    }
    Series { name: name.to_owned(), labels }
}

/// Where the quote is that ends a value.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            '"' if !escaped => return place,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    panic!("a value ends: {text}")
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).expect("a chunk has a length");
        text.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    text
}
