"""The chart of the docs: bars of CPU per delivery, in SVG written by hand."""

from html import escape
from typing import Final

from tests.bench.contestants import CONTESTANTS
from tests.bench.results import Results

WIDTH: Final = 760
LABELS: Final = 300
"""Pixels for the names on the left."""
FIGURES: Final = 90
"""Pixels for the figures on the right."""
BAR: Final = 20
STEP: Final = 30
TOP: Final = 44
OURS, OTHERS, LIMIT = "#1668b8", "#8a8f98", "#c9701a"
INK: Final = "#4a4f57"


def draw(results: Results) -> str:
    """An SVG document: one bar for each contestant of the fan-out, the cheapest on top."""
    found = {
        name: value
        for name in results.figures["fan-out"]
        if (value := results.median("fan-out", name, "cpu")) is not None
    }
    bars = sorted(found.items(), key=lambda item: item[1])
    longest = max((value for _, value in bars), default=1.0)
    height = TOP + STEP * len(bars) + 10
    title = "CPU per delivered event, in microseconds; shorter is better"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-weight="600">{escape(title)}</text>',
    ]
    room = WIDTH - LABELS - FIGURES
    for number, (name, value) in enumerate(bars):
        y = TOP + STEP * number
        length = max(1.0, value / longest * room)
        middle = y + BAR / 2 + 4.5
        label = escape(_title(name))
        parts += [
            f'<text x="{LABELS - 10}" y="{middle:g}" text-anchor="end">{label}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"'
            f' fill="{_colour(name)}"/>',
            f'<text x="{LABELS + length + 8:.1f}" y="{middle:g}">{value:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _title(name: str) -> str:
    return CONTESTANTS[name].title.replace("`", "") if name in CONTESTANTS else name


def _is_ours(name: str) -> bool:
    return name in CONTESTANTS and CONTESTANTS[name].ours


def _colour(name: str) -> str:
    if name == "limit":
        return LIMIT
    return OURS if _is_ours(name) else OTHERS
