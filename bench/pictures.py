"""Draws what compare.py has measured: a page that needs nothing else, and its first picture alone.

Each picture is SVG. Bars are medians over the rounds; a thin line on a bar goes from the least to the most.
"""
import html
import statistics

COLOURS = {"vlot": "#2e6fae", "etcd": "#d98b2b"}
THREADS = ["#2e6fae", "#7aa6d1", "#2e9e5b", "#9bcf9f", "#8a6bb3", "#c0a8de", "#b05a5a", "#999999"]
STYLE = ("text{font-family:sans-serif;font-size:12px;fill:#333}.t{font-size:13px;font-weight:bold}.s{fill:#777;font-size:11px}"
         ".r{stroke:#444}.g{stroke:#e4e4e4}.l{fill:none;stroke-width:1.5}")
WIDTH, LEFT, BAR = 900, 210, 13


def page(title, rows, of, command):
    """The page, and its first picture. `of(name, row)` gives the reports of `vlot bench` on a row; rows are named by `label`."""
    overview = bars("Operations a second", rows, of, lambda r: r["operations_per_second"], "{:,.0f}", ratio="times etcd's")
    pictures = [
        overview,
        bars("CPU of the servers: microseconds an operation", rows, of, lambda r: r["server_cpu_us_per_operation"], "{:.1f}", ratio="of etcd's"),
        bars("Latency p50, ms", rows, of, lambda r: r["latency_us"]["p50"] / 1000, "{:.2f}", ratio="of etcd's"),
        bars("Latency p99, ms", rows, of, lambda r: r["latency_us"]["p99"] / 1000, "{:.1f}", ratio="of etcd's"),
        threads(rows, of),
        *(over_time(row, of) for row in rows),
    ]
    body = "\n".join(f"<p>{picture}</p>" for picture in pictures)
    head = f"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{html.escape(title)}</title></head>"
    return f"{head}<body style=\"font-family:sans-serif;max-width:940px;margin:2em auto\"><h1>{html.escape(title)}</h1>" \
           f"<pre>{html.escape(command)}</pre>\n{body}\n</body></html>\n", overview


def label(row):
    workload = row[0].replace("range --consistency=l", "range, linearizable").replace("range --consistency=s", "range, serializable")
    return f"{workload}, {row[1]:,} client{'s' if row[1] > 1 else ''}"


def svg(height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"><style>{STYLE}</style>'
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>' + "".join(parts) + "</svg>")


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>'


def rect(x, y, width, height, colour, told):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height}" fill="{colour}"><title>{html.escape(told)}</title></rect>'


def legend(left, entries, top=8):
    parts = []
    for name, colour in entries:
        parts += [rect(left, top, 12, 10, colour, name), text(left + 17, top + 9, name)]
        left += 32 + 7 * len(name)
    return parts


def bars(title, rows, of, value, shape, ratio):
    parts = [text(0, 17, title, "t"), *legend(WIDTH - 180, COLOURS.items())]
    most = max(value(r) for row in rows for name in COLOURS for r in of(name, row)) or 1
    room, top = WIDTH - LEFT - 170, 30
    for row in rows:
        parts.append(text(LEFT - 8, top + BAR + 4, label(row), anchor="end"))
        medians = {}
        for place, (name, colour) in enumerate(COLOURS.items()):
            values = sorted(value(r) for r in of(name, row))
            medians[name] = statistics.median(values)
            y, at = top + place * (BAR + 1), lambda v: LEFT + room * v / most
            parts.append(rect(LEFT, y, at(medians[name]) - LEFT, BAR, colour, f"{name}: {', '.join(shape.format(v) for v in values)}"))
            middle = y + BAR / 2
            parts.append(f'<line class="r" x1="{at(values[0]):.1f}" x2="{at(values[-1]):.1f}" y1="{middle}" y2="{middle}"/>')
            parts.append(text(at(values[-1]) + 5, y + BAR - 2, shape.format(medians[name]), "s"))
        if medians["etcd"]:
            parts.append(text(WIDTH, top + BAR + 4, f"{medians['vlot'] / medians['etcd']:.2f} {ratio}", anchor="end"))
        top += 2 * BAR + 12
    return svg(top + 6, parts)


def threads(rows, of):
    """Ours alone: where the CPU of an operation goes, by thread, all nodes together."""
    sums = {}
    for row in rows:
        of_run = []
        for report in of("vlot", row):
            by_name = {}
            for each in report["server_threads"].values():
                for name, micros in each.items():
                    by_name[name] = by_name.get(name, 0) + micros
            of_run.append(by_name)
        names = {name for run in of_run for name in run}
        sums[row] = {name: statistics.median(run.get(name, 0) for run in of_run) for name in names}
    total = {}
    for by_name in sums.values():
        for name, micros in by_name.items():
            total[name] = total.get(name, 0) + micros / (sum(by_name.values()) or 1)
    order = sorted(total, key=total.get, reverse=True)
    shown, rest = order[:len(THREADS) - 1], order[len(THREADS) - 1:]
    colours = dict(zip([*shown, "others"], THREADS))
    parts = [text(0, 17, "Where our CPU goes, by thread (all nodes; share of an operation)", "t")]
    top = 50
    parts += legend(LEFT, [(name, colour) for name, colour in colours.items() if rest or name != "others"], 26)
    for row in rows:
        parts.append(text(LEFT - 8, top + BAR, label(row), anchor="end"))
        whole, left = sum(sums[row].values()) or 1, LEFT
        groups = [(name, sums[row].get(name, 0)) for name in shown] + [("others", sum(sums[row].get(name, 0) for name in rest))]
        for name, micros in groups:
            width = (WIDTH - LEFT - 100) * micros / whole
            parts.append(rect(left, top, width, BAR + 3, colours.get(name, THREADS[-1]), f"{name}: {micros:.2f} µs"))
            left += width
        parts.append(text(WIDTH, top + BAR, f"{whole:.1f} µs", anchor="end"))
        top += BAR + 12
    return svg(top + 6, parts)


def over_time(row, of):
    """The throughput of each run, as it went."""
    runs = [(name, report["timeline"]) for name in COLOURS for report in of(name, row)]
    rate = lambda stretch: stretch["operations"] / max(stretch["upto_seconds"] - stretch["from_seconds"], 1e-9)
    most = max((rate(stretch) for _, run in runs for stretch in run), default=1) or 1
    upto = max((stretch["upto_seconds"] for _, run in runs for stretch in run), default=1) or 1
    height, bottom = 170, 150
    x, y = (lambda seconds: LEFT + (WIDTH - LEFT - 10) * seconds / upto), (lambda value: bottom - (bottom - 30) * value / most)
    parts = [text(0, 17, f"Operations a second over time: {label(row)}", "t"), *legend(WIDTH - 180, COLOURS.items())]
    for value in (0, most / 2, most):
        parts += [f'<line class="g" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>',
                  text(LEFT - 8, y(value) + 4, f"{value:,.0f}", "s", "end")]
    for name, run in runs:
        points = " ".join(f"{x(stretch['upto_seconds']):.1f},{y(rate(stretch)):.1f}" for stretch in run)
        parts.append(f'<polyline class="l" stroke="{COLOURS[name]}" points="{points}"/>')
    parts.append(text(WIDTH - 10, bottom + 15, f"{upto:.1f} s", "s", "end"))
    return svg(height, parts)
