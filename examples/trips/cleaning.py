"""The rules that turn one part's lines into trips: pure but for reading the part's file.

A line is *kept* (perhaps *repaired*) or *rejected* for exactly one reason, the first that applies, so
``rows in == kept + sum(rejected)`` always holds.  Distances are in metres, durations in seconds, speeds in
millimetres a second, all integers: sums do not depend on the order of addition.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from random import Random  # only its name: chance comes from the step's context

WIDTH = 8  # columns of a line
COLUMNS = ("trip_id", "bike", "start_station", "end_station", "started_at", "duration_s", "distance", "rider")
RIDERS = frozenset({"member", "casual", "day_pass"})
SHORTEST_S = 60
LONGEST_S = 86_400
FURTHEST_M = 100_000
MANY = 4  # a trip more than this many times faster than the median was no bicycle ride
FAR_SLOWER = 100  # a station this many times slower than the median reports kilometres
SAMPLE = 3  # rejected lines each part shows

REASONS = {
    "torn_line": "the line ends early",
    "missing_field": "bike, station, time, duration or distance is empty",
    "unreadable": "a number or time that cannot be read",
    "duplicate": "the trip was uploaded before",
    "unknown_station": "no such station",
    "outside_period": "not in the days of this upload: the kiosk's clock was reset",
    "false_start": f"shorter than {SHORTEST_S} s: taken and put back",
    "never_docked": f"longer than {LONGEST_S} s: not docked properly",
    "impossible_distance": f"below 0 or above {FURTHEST_M // 1000} km",
    "too_fast": f"more than {MANY} times the median speed: carried by a van",
}
REPAIRS = {
    "day_first_date": "31/12/2025 read as 2025-12-31",
    "kilometres": "distance of a station that reports kilometres",
    "rider_missing": "kept as rider 'unknown'",
    "station_spelling": "s7 read as S007",
}


class Rules(NamedTuple):
    """What one part is measured by: two borders it was announced with, two that are learned from it."""

    first_day: date  # inclusive
    last_day: date
    stations: int
    median_speed_mm_s: int
    kilometre_stations: frozenset[str]


class Trip(NamedTuple):
    """One good trip."""

    start: str
    end: str
    weekday: int  # Monday is 0
    hour: int
    duration_s: int
    distance_m: int
    rider: str


class Line(NamedTuple):
    """What became of one line: ``trip`` is None exactly if ``rejected`` says why."""

    number: int  # in its file; the header is line 1
    text: str
    trip: Trip | None
    rejected: str | None
    repaired: tuple[str, ...]


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The part's data lines with their numbers; ValueError if its header is not the expected one."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != COLUMNS:
            raise ValueError(f"{path} does not begin with the header {','.join(COLUMNS)}")
        yield from enumerate(rows, start=2)


def learn_speeds(path: Path) -> tuple[int, list[str]]:
    """The part's median speed, and the stations whose own median is far too slow: they report kilometres.

    Only lines with plausible numbers are asked.  A part without any has the median 0.
    """
    by_station: dict[str, list[int]] = {}
    for _, row in read_lines(path):
        if len(row) != WIDTH:
            continue
        try:
            duration_s, thousandths = int(row[5]), parse_thousandths(row[6])
        except ValueError:
            continue
        if SHORTEST_S <= duration_s <= LONGEST_S and 0 < thousandths <= FURTHEST_M * 1000:
            by_station.setdefault(station_code(row[2]), []).append(thousandths // duration_s)
    speeds = [speed for of_station in by_station.values() for speed in of_station]
    median = median_low(speeds) if speeds else 0
    slow = (station for station, own in by_station.items() if median_low(own) * FAR_SLOWER < median)
    return median, sorted(slow)


def judge_lines(path: Path, rules: Rules) -> Iterator[Line]:
    """Every line of the part, judged in file order."""
    seen: set[str] = set()
    for number, row in read_lines(path):
        repaired: list[str] = []
        outcome = judge(row, rules, seen, repaired)
        if isinstance(outcome, Trip):
            yield Line(number, "", outcome, None, tuple(repaired))
        else:
            yield Line(number, ",".join(row), None, outcome, ())


def judge_part(path: Path, rules: Rules, chance: Random) -> dict[str, Any]:
    """How many lines are kept, repaired and rejected, with ``SAMPLE`` of the last picked by chance."""
    kept = 0
    repaired: Counter[str] = Counter()
    rejected: list[dict[str, Any]] = []
    for line in judge_lines(path, rules):
        if line.rejected is None:
            kept += 1
            repaired.update(line.repaired)
        else:
            rejected.append({"line": line.number, "reason": line.rejected, "text": line.text})
    picked = chance.sample(range(len(rejected)), min(SAMPLE, len(rejected)))
    return {
        "kept": kept,
        "repaired": dict(sorted(repaired.items())),
        "rejected": dict(sorted(Counter(line["reason"] for line in rejected).items())),
        "sample": [{"file": path.name, **rejected[index]} for index in sorted(picked)],
    }


def judge(row: list[str], rules: Rules, seen: set[str], repaired: list[str]) -> Trip | str:
    """The trip of one line, or the reason for its rejection.

    ``seen`` holds the ids of the trips kept so far and gets this one's; ``repaired`` gets what was mended.
    """
    if len(row) != WIDTH:
        return "torn_line"
    trip_id, bike, start_text, end_text, started_at, duration_text, distance_text, rider = row
    if not (trip_id and bike and start_text and end_text and started_at and duration_text and distance_text):
        return "missing_field"
    if trip_id in seen:
        return "duplicate"
    start, end = station_code(start_text), station_code(end_text)
    if not (_exists(start, rules) and _exists(end, rules)):
        return "unknown_station"
    try:
        day, hour = parse_time(started_at)
        duration_s, thousandths = int(duration_text), parse_thousandths(distance_text)
    except ValueError:
        return "unreadable"
    if not rules.first_day <= day <= rules.last_day:
        return "outside_period"
    if duration_s < SHORTEST_S:
        return "false_start"
    if duration_s > LONGEST_S:
        return "never_docked"
    in_kilometres = start in rules.kilometre_stations
    distance_m = thousandths if in_kilometres else thousandths // 1000
    if not 0 <= distance_m <= FURTHEST_M:
        return "impossible_distance"
    if distance_m * 1000 // duration_s > MANY * rules.median_speed_mm_s:
        return "too_fast"

    seen.add(trip_id)
    if "/" in started_at:
        repaired.append("day_first_date")
    if in_kilometres:
        repaired.append("kilometres")
    if start != start_text or end != end_text:
        repaired.append("station_spelling")
    if rider not in RIDERS:
        repaired.append("rider_missing")
        rider = "unknown"
    return Trip(start, end, day.weekday(), hour, duration_s, distance_m, rider)


def station_code(text: str) -> str:
    """``" s7 "`` -> ``"S007"``; what is not a station number comes back unchanged."""
    digits = text.strip().upper().removeprefix("S")
    return f"S{int(digits):03d}" if digits.isascii() and digits.isdigit() else text


def parse_time(text: str) -> tuple[date, int]:
    """Day and hour of ``2025-12-31T08:15:22`` or ``31/12/2025 08:15:22``; ValueError if it is neither."""
    day, separator, clock = text.partition("T")
    if not separator:
        day_first, _, clock = text.partition(" ")
        number, month, year = day_first.split("/")
        day = f"{year}-{month}-{number}"
    hour = int(clock[:2])
    if len(clock) != 8 or not 0 <= hour <= 23:
        raise ValueError(f"{text!r} is not a time")
    return date.fromisoformat(day), hour


def parse_thousandths(text: str) -> int:
    """``"3.412"`` -> 3412, ``"-2"`` -> -2000, exactly; ValueError if it is no such number."""
    whole, _, fraction = text.removeprefix("-").partition(".")
    if not (whole + fraction).isdigit():
        raise ValueError(f"{text!r} is not a decimal number")
    size = int(whole) * 1000 + int(fraction.ljust(3, "0")[:3])
    return -size if text.startswith("-") else size


def _exists(station: str, rules: Rules) -> bool:
    return station[:1] == "S" and station[1:].isdigit() and 1 <= int(station[1:]) <= rules.stations
