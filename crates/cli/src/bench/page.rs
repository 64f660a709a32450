//! A run as a page with pictures, which needs nothing else: latencies, what happened over time, and where CPU went.
//!
//! Owns how it is drawn. What is measured is in `report.rs`.

use std::fmt::Write as _;
use std::time::Duration;

use super::histogram::Histogram;
use super::report::{Report, shown};
use super::timeline::Stretch;
use crate::svg::{Escaped, Svg};

/// Pixels of one picture.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 36.0;
/// A logarithmic scale over more than this has a tick for each power of ten alone.
const DECADES_MAX: f64 = 1e3;
/// Of a thread's bar.
const BAR: f64 = 22.0;

const STYLE: &str = "\
body{font-family:sans-serif;max-width:940px;margin:2em auto;color:#222}h2{font-size:1.1em;margin:1.6em 0 .3em}\
td,th{padding:.15em 1em .15em 0;text-align:right}th{text-align:left;font-weight:normal;color:#666}\
svg{background:#fff}.axis{stroke:#999}.grid{stroke:#e4e4e4}.tick{fill:#666;font-size:11px}.bar{fill:#4878a8}\
.line{fill:none;stroke-width:1.6}.p50{stroke:#2e9e5b}.p99{stroke:#ec8b2f}.max{stroke:#c0392b}.rate{stroke:#4878a8}\
.k50{fill:#2e9e5b}.k99{fill:#ec8b2f}.kmax{fill:#c0392b}";

/// Draws the page.
pub fn draw(report: &Report<'_>) -> String {
    let (load, tally) = (report.load, report.tally);
    let title = format!("vlot bench {}, {} clients", report.workload, load.clients);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n{1}",
        Escaped(&title),
        summary(report)
    );
    let mut section = |name: &str, picture: String| {
        // Writing to a string cannot fail.
        let _ = write!(page, "<h2>{}</h2>\n{picture}", Escaped(name));
    };
    let stretches = tally.timeline.stretches();
    section("Latency: operations that took so long", histogram(&tally.latency));
    if tally.delivery.count() > 0 {
        section("Delivery: events that came so long after their write was sent", histogram(&tally.delivery));
    }
    section("Operations a second, over time", throughput(stretches));
    section("Latency over time: p50, p99 and the longest", latencies(stretches));
    if !report.cpu.of.is_empty() {
        section("CPU of the servers by thread: microseconds an operation", threads(report));
    }
    page + "</body></html>\n"
}

fn summary(report: &Report<'_>) -> String {
    let (load, tally, seconds) = (report.load, report.tally, report.elapsed.as_secs_f64());
    let rate = tally.operations() as f64 / seconds;
    let latency = &tally.latency;
    let quantile = |fraction| shown(latency.quantile(fraction));
    let mut rows = vec![
        ("endpoints", load.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("measured", format!("{seconds:.2} s, {} operations, {} failures", tally.operations(), tally.failures())),
        ("operations a second", format!("{rate:.0}")),
        (
            "latency p50, p99, p99.9, longest",
            [quantile(0.5), quantile(0.99), quantile(0.999), shown(latency.max())].join(", "),
        ),
        (
            "keys and values",
            format!("{} keys of {} bytes, values of {} bytes", load.key_space, load.key_size, load.val_size),
        ),
    ];
    if !report.cpu.of.is_empty() {
        let cpu = report.cpu.total();
        let (each, cores) = (report.per_operation(cpu), report.cores(cpu));
        rows.push(("CPU of the servers", format!("{each:.2} µs an operation, {cores:.2} cores")));
        rows.push(("memory of the servers", format!("{:.0} MiB", report.memory.bytes as f64 / f64::from(1 << 20))));
    }
    let row = |(name, value): (&str, String)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", Escaped(&value));
    format!("<table>\n{}</table>\n", rows.into_iter().map(row).collect::<String>())
}

/// What lies between two numbers, on a line of pixels.
struct Scale {
    from: f64,
    upto: f64,
    is_logarithmic: bool,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_logarithmic { value.max(self.from).ln() } else { value };
        let whole = place(self.upto) - place(self.from);
        let part = if whole > 0.0 { (place(value) - place(self.from)) / whole } else { 0.0 };
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Values that people read easily: 1, 2 and 5 times powers of ten, or powers of ten where these would be many.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let powers = self.from.log10().floor() as i32..=self.upto.log10().floor() as i32;
            let digits: &[f64] = if self.upto / self.from > DECADES_MAX { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let ticks = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
            return ticks.filter(|tick| (self.from..=self.upto).contains(tick)).collect();
        }
        let rough = (self.upto - self.from).max(f64::MIN_POSITIVE) / 6.0;
        let power = 10_f64.powi(rough.log10().floor() as i32);
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..).map(|number| self.from + f64::from(number) * step).take_while(|tick| *tick <= self.upto).collect()
    }
}

/// A picture with two axes.
struct Chart {
    svg: Svg,
    x: Scale,
    y: Scale,
}

impl Chart {
    fn new(x: (f64, f64, bool), y: (f64, f64, bool), x_name: fn(f64) -> String, y_name: fn(f64) -> String) -> Chart {
        let scale = |(from, upto, is_logarithmic): (f64, f64, bool), start, end| Scale {
            from,
            upto: if upto > from { upto } else { from + 1.0 },
            is_logarithmic,
            start,
            end,
        };
        let (x, y) = (scale(x, LEFT, WIDTH - RIGHT), scale(y, HEIGHT - BOTTOM, TOP));
        let mut svg = begun(HEIGHT);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let at = y.at(tick);
            svg.line(format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"));
            svg.text((6.0, at + 4.0), "tick", &y_name(tick));
        }
        for tick in x.ticks() {
            let at = x.at(tick);
            let upto = bottom + 5.0;
            svg.line(format_args!(
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{upto}\"/>"
            ));
            svg.text((at - 12.0, bottom + 20.0), "tick", &x_name(tick));
        }
        svg.line(format_args!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"));
        Chart { svg, x, y }
    }

    fn polyline(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", self.x.at(x), self.y.at(y))).collect();
        self.svg.line(format_args!("<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" ")));
    }

    fn end(mut self) -> String {
        self.svg.line(format_args!("</svg>"));
        self.svg.0
    }
}

fn begun(height: f64) -> Svg {
    let mut svg = Svg(String::new());
    svg.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">"
    ));
    svg
}

fn histogram(latencies: &Histogram) -> String {
    let columns = latencies.columns();
    let micros = |duration: &Duration| (duration.as_nanos() as f64 / 1e3).max(0.1);
    let ends = columns.first().zip(columns.last());
    let (from, upto) = ends.map_or((1.0, 10.0), |(first, last)| (micros(&first.0), micros(&last.1)));
    let most = columns.iter().map(|(.., count)| *count).max().unwrap_or(1) as f64;
    let mut chart = Chart::new((from, upto, true), (0.0, most, false), time_name, count_name);
    for (start, end, count) in &columns {
        let (left, right) = (chart.x.at(micros(start)), chart.x.at(micros(end)));
        let top = chart.y.at(*count as f64);
        let (width, height) = ((right - left - 0.5).max(0.5), HEIGHT - BOTTOM - top);
        chart.svg.line(format_args!(
            "<rect class=\"bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
             <title>{} to {}: {count}</title></rect>",
            shown(*start),
            shown(*end)
        ));
    }
    chart.end()
}

fn throughput(stretches: &[Stretch]) -> String {
    let upto = stretches.last().map_or(1.0, |last| last.upto.as_secs_f64());
    let most = stretches.iter().map(Stretch::rate).fold(1.0, f64::max);
    let mut chart = Chart::new((0.0, upto, false), (0.0, most, false), second_name, count_name);
    chart.polyline("rate", stretches.iter().map(|it| (it.upto.as_secs_f64(), it.rate())));
    chart.end()
}

/// What of a stretch is drawn.
type Drawn = fn(&Stretch) -> Duration;

fn latencies(stretches: &[Stretch]) -> String {
    let upto = stretches.last().map_or(1.0, |last| last.upto.as_secs_f64());
    let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
    // A stretch in which nothing ended has no latency.
    let shown = || stretches.iter().filter(|it| it.operations > 0);
    let least = shown().map(|it| micros(it.p50)).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least } else { 1.0 };
    let most = shown().map(|it| micros(it.max)).fold(least * 10.0, f64::max);
    let mut chart = Chart::new((0.0, upto, false), (least / 2.0, most, true), second_name, time_name);
    let curves: [(&str, &str, Drawn); 3] =
        [("p50", "k50", |it| it.p50), ("p99", "k99", |it| it.p99), ("max", "kmax", |it| it.max)];
    for (place, (class, key, of)) in curves.into_iter().enumerate() {
        chart.polyline(class, shown().map(|it| (it.upto.as_secs_f64(), micros(of(it)))));
        let left = LEFT + 10.0 + 60.0 * place as f64;
        chart.svg.text((left, TOP + 8.0), key, class);
    }
    chart.end()
}

fn threads(report: &Report<'_>) -> String {
    let all = report.cpu.of.iter().flat_map(|(pid, times)| times.0.iter().map(move |(name, time)| (pid, name, time)));
    let mut rows: Vec<_> = all.map(|(pid, name, time)| (pid, name, report.per_operation(*time))).collect();
    // What takes nothing is left out, and the largest comes first within its process.
    let most = rows.iter().map(|(.., micros)| *micros).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    rows.retain(|(.., micros)| *micros >= most / 200.0);
    rows.sort_by(|a, b| a.0.cmp(b.0).then(b.2.total_cmp(&a.2)));
    let mut svg = begun(rows.len() as f64 * BAR + 10.0);
    let left = 230.0;
    for (place, (pid, name, micros)) in rows.into_iter().enumerate() {
        let top = place as f64 * BAR + 4.0;
        let width = (WIDTH - left - 110.0) * micros / most;
        svg.text((0.0, top + 14.0), "tick", &format!("{pid} {name}"));
        let height = BAR - 6.0;
        svg.line(format_args!(
            "<rect class=\"bar\" x=\"{left}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
        svg.text((left + width + 6.0, top + 14.0), "tick", &format!("{micros:.2} µs"));
    }
    svg.line(format_args!("</svg>"));
    svg.0
}

fn time_name(micros: f64) -> String {
    shown(Duration::from_nanos((micros * 1e3).round() as u64))
}

fn second_name(seconds: f64) -> String {
    format!("{} s", (seconds * 100.0).round() / 100.0)
}

fn count_name(count: f64) -> String {
    match count {
        ..1e3 => format!("{count:.0}"),
        ..1e6 => format!("{} k", count / 1e3),
        _ => format!("{} M", count / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_numbers_that_people_read() {
        let scale = |from, upto, is_logarithmic| Scale { from, upto, is_logarithmic, start: 0.0, end: 100.0 };
        assert_eq!(scale(0.0, 60.0, false).ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(scale(0.0, 1_234.0, false).ticks().len(), 3);
        assert_eq!(scale(5.0, 20_000.0, true).ticks(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(scale(8.0, 120.0, true).ticks(), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(scale(1.0, 100.0, true).at(10.0).round(), 50.0);
        assert_eq!(scale(0.0, 10.0, false).at(99.0), 100.0);
    }
}
