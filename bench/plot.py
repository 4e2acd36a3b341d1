#!/usr/bin/env python3
"""Draws what a benchmark found, from its JSON: `python3 bench/plot.py <report.json> <plot.svg>`.

Loads at several numbers of connections become lines over logarithmic axes, on which a distance is a ratio; all others
become bars, whose lengths are. Needs nothing but Python.
"""

import json
import math
import sys
from html import escape

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 860, 250, 190, 40, 60, 70
BAR = 20
COLOURS = ["#0b6fb8", "#d1622b", "#3a8f4d", "#8b5fbf", "#b8860b", "#6b7280", "#c23b6a", "#00897b"]


class Svg:
    """Shapes, and the size that they need."""

    def __init__(self):
        self.parts = []

    def text(self, x, y, text, anchor="start", size=12, weight="normal", colour="#222"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def line(self, x1, y1, x2, y2, colour="#ddd", width=1):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
        )

    def path(self, points, colour):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def bar(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def write(self, file, height):
        with open(file, "w", encoding="utf-8") as out:
            out.write(
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
                f'height="{height:.0f}" font-family="system-ui, sans-serif">\n'
                f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>\n'
            )
            out.write("\n".join(self.parts) + "\n</svg>\n")


class Scale:
    """Logarithmic, from the power of ten below the least value to the one above the greatest."""

    def __init__(self, values, start, end):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.start, self.end = start, end

    def __call__(self, value):
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def marks(self):
        return [10.0**power for power in range(self.low, self.high + 1)]


def number(value):
    """A value in few characters: 12, 3.4k, 0.05."""
    for least, unit in [(1e6, "M"), (1e3, "k")]:
        if value >= least:
            return f"{value / least:.3g}{unit}"
    return f"{value:.3g}"


def is_drawable(value):
    return value is not None and value > 0 and math.isfinite(value)


def unique(values):
    return list(dict.fromkeys(values))


def lines(svg, y, title, rows, figure, colours):
    """One panel: a figure over the number of connections, a line for each contestant."""
    rows = [row for row in rows if is_drawable(row[figure])]
    if not rows:
        return y
    ticks = sorted({row["connections"] for row in rows})
    right = WIDTH - RIGHT - 120
    up = Scale([row[figure] for row in rows], y + PANEL, y)
    # Connections too, but exactly from the first to the last.
    step = (right - LEFT) / max(math.log(ticks[-1] / ticks[0]), 1e-9)

    def across(connections):
        return LEFT + math.log(connections / ticks[0]) * step

    svg.text(LEFT, y - 12, title, weight="bold", size=14)
    for mark in up.marks():
        svg.line(LEFT, up(mark), right, up(mark))
        svg.text(LEFT - 8, up(mark) + 4, number(mark), "end")
    for tick in ticks:
        svg.line(across(tick), y, across(tick), y + PANEL)
        svg.text(across(tick), y + PANEL + 18, str(tick), "middle")
    svg.text(right, y + PANEL + 36, "connections", "end", 11, colour="#666")
    labels = []
    for contestant in unique(row["contestant"] for row in rows):
        own = sorted((row["connections"], row[figure]) for row in rows if row["contestant"] == contestant)
        points = [(across(connections), up(value)) for connections, value in own]
        svg.path(points, colours[contestant])
        labels.append((points[-1], contestant))
    # Names stand at the ends of their lines, and never on each other.
    below = -math.inf
    for (x, wanted), contestant in sorted(labels, key=lambda label: label[0][1]):
        below = max(wanted + 4, below + 15)
        svg.text(x + 8, below, contestant, colour=colours[contestant])
    return y + PANEL + GAP


def bars(svg, y, title, entries, colours):
    """A bar for each (label, contestant, value)."""
    entries = [entry for entry in entries if is_drawable(entry[2])]
    if not entries:
        return y
    left = LEFT + 60
    unit = (WIDTH - RIGHT - 60 - left) / max(value for _, _, value in entries)
    svg.text(LEFT - 150, y - 12, title, weight="bold", size=14)
    height = 0
    for label in unique(label for label, _, _ in entries):
        svg.text(LEFT - 150, y + height + 15, label, weight="bold")
        height += BAR + 2
        for _, contestant, value in (entry for entry in entries if entry[0] == label):
            svg.text(left - 8, y + height + 14, contestant, "end")
            svg.bar(left, y + height, value * unit, BAR - 4, colours[contestant])
            svg.text(left + value * unit + 6, y + height + 13, number(value), size=11)
            height += BAR
        height += 8
    return y + height + GAP


def draw(report, file):
    svg = Svg()
    machine = report["machine"]
    svg.text(LEFT - 150, 26, f"{report['benchmark']}: {report['settings']}", size=13, weight="bold")
    told = f"{machine['date']}, commit {machine['commit']}, {machine['cores']} cores ({machine['processor']})"
    svg.text(LEFT - 150, 44, told, size=11, colour="#666")
    rows, passes = report["rows"], report.get("passes", [])
    names = unique(each["contestant"] for each in rows + passes)
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    y = TOP + 40
    whats = unique(row["what"] for row in rows)
    loads = [(row["what"], row["contestant"]) for row in rows]
    over = [what for what in whats if any(load[0] == what and loads.count(load) > 1 for load in loads)]
    for what in over:
        own = [row for row in rows if row["what"] == what]
        y = lines(svg, y, f"{what}, a second", own, "per_second", colours)
        y = lines(svg, y, f"{what}, 99th percentile in ms", own, "p99_ms", colours)
    others = [row for row in rows if row["what"] not in over]
    for title, figure in [("a second", "per_second"), ("99th percentile in ms", "p99_ms")]:
        y = bars(svg, y, title, [(row["what"], row["contestant"], row[figure]) for row in others], colours)
    y = bars(
        svg, y, "events a second", [(each["what"], each["contestant"], each["per_second"]) for each in passes], colours
    )
    svg.write(file, y)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as source:
        draw(json.load(source), sys.argv[2])
