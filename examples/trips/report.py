"""The year's totals as a Markdown page with text charts; the same totals give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from examples.trips.cleaning import REASONS, REPAIRS
from examples.trips.totals import DISTANCE_BIN_M, DURATION_BIN_S, median_bin

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHADES = " ▁▂▃▄▅▆▇█"
BAR_WIDTH = 40


def render(totals: dict[str, Any]) -> str:
    """The whole report; ``totals`` is what ``tasks.combine`` returns."""
    rows = sum(part["rows"] for part in totals["parts"])
    sections = (
        _headline(totals, rows),
        _year(totals["parts"]),
        _week(totals["week"]),
        _stations(totals["starts"], totals["ends"]),
        _cleaning(totals, rows),
    )
    return "\n".join(sections)


def bars(labelled: Sequence[tuple[str, int]]) -> str:
    """One line per value; the longest bar has ``BAR_WIDTH`` characters, a value above zero at least one."""
    most = max((value for _, value in labelled), default=0)
    lines = (
        f"{label}  {'█' * max(1, value * BAR_WIDTH // most) if value else '':<{BAR_WIDTH}} {value:>9,}"
        for label, value in labelled
    )
    return "\n".join(lines)


def percent(part: int, whole: int) -> str:
    """``percent(1, 3)`` -> ``"33.3 %"``, rounded down."""
    per_mille = part * 1000 // whole if whole else 0
    return f"{per_mille // 10}.{per_mille % 10} %"


def _headline(totals: dict[str, Any], rows: int) -> str:
    trips = totals["trips"]
    middle_m = (median_bin(totals["distances"]) + 1) * DISTANCE_BIN_M
    middle_min = (median_bin(totals["durations"]) + 1) * DURATION_BIN_S // 60
    riders = ", ".join(f"{name} {percent(count, trips)}" for name, count in totals["riders"].items())
    return f"""# A year of bicycle hires

**{trips:,} trips** out of {rows:,} uploaded lines, {totals["distance_m"] // 1000:,} km in \
{totals["duration_s"] // 3600:,} hours.
Half of them were shorter than {middle_m / 1000:.2f} km and took less than {middle_min} minutes.
Riders: {riders}.
"""


def _year(parts: list[dict[str, Any]]) -> str:
    days = sorted(parts, key=lambda part: str(part["first_day"]))
    chart = bars([(part["first_day"], part["kept"]) for part in days])
    return f"""## Through the year

Trips per upload, by its first day.

```text
{chart}
```
"""


def _week(week: Sequence[int]) -> str:
    most = max(week, default=0) or 1
    lines = [f"     {''.join(f'{hour:<6d}' for hour in range(0, 24, 3)).rstrip()}"]
    for weekday, name in enumerate(WEEKDAYS):
        hours = week[weekday * 24 : weekday * 24 + 24]
        shades = "".join(SHADES[-(-count * (len(SHADES) - 1) // most)] * 2 for count in hours)
        lines.append(f"{name}  {shades} {sum(hours):>9,}")
    chart = "\n".join(lines)
    return f"""## Through the week

Trips per hour of departure; the fullest hour has {most:,}.

```text
{chart}
```
"""


def _stations(starts: dict[str, int], ends: dict[str, int]) -> str:
    everywhere = sorted({*starts, *ends})
    surplus = {station: ends.get(station, 0) - starts.get(station, 0) for station in everywhere}
    busiest = sorted(everywhere, key=lambda station: (-starts.get(station, 0), station))[:8]
    fullest = sorted(everywhere, key=lambda station: (-surplus[station], station))[:4]
    emptiest = sorted(everywhere, key=lambda station: (surplus[station], station))[:4]
    chart = bars([(station, starts.get(station, 0)) for station in busiest])
    moves = "\n".join(
        f"| {full} | {surplus[full]:+,} | {empty} | {surplus[empty]:+,} |"
        for full, empty in zip(fullest, emptiest, strict=True)
    )
    return f"""## Stations

The busiest, by departures.

```text
{chart}
```

Where bicycles pile up, and where they run out.

| fills up | arrivals less departures | runs empty | arrivals less departures |
|---|---:|---|---:|
{moves}
"""


def _cleaning(totals: dict[str, Any], rows: int) -> str:
    rejected, repaired = totals["rejected"], totals["repaired"]
    lost = sum(rejected.values())
    reasons = "\n".join(
        f"| {reason} | {rejected[reason]:,} | {meaning} |" for reason, meaning in REASONS.items() if reason in rejected
    )
    repairs = "\n".join(
        f"| {repair} | {repaired[repair]:,} | {meaning} |" for repair, meaning in REPAIRS.items() if repair in repaired
    )
    sample = "\n".join(
        f"{line['file']}:{line['line']:<6} {line['reason']:<20} {line['text']}" for line in totals["sample"]
    )
    return f"""## Cleaning

{rows:,} lines in = {totals["trips"]:,} kept + {lost:,} rejected ({percent(lost, rows)}).

| rejected | lines | why |
|---|---:|---|
{reasons}

| repaired | trips | how |
|---|---:|---|
{repairs}

Stations that report kilometres and want new firmware: {", ".join(totals["kilometre_stations"]) or "none"}.

One rejected line of each kind, as uploaded:

```text
{sample}
```
"""
