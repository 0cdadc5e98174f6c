"""The fictional city behind the trips data set: who hires when and where, and what dirt uploads have.

A row is a pure function of ``(seed, part, row)``: sixteen 32-bit numbers come from one BLAKE2b digest and
everything else is integer arithmetic and look-up tables, so no platform, Python version or hash seed can
change it.  The one exception, a doubled line, repeats one of the 200 good lines before it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

HEADER = "trip_id,bike,start_station,end_station,started_at,duration_s,distance,rider"
YEAR = 2025
DAYS = 365
STATIONS = 60
BIKES = 900

# Relative demand: by month (January first), by weekday (Monday first), by hour on working and on free days.
MONTHS = (9, 10, 14, 18, 23, 26, 27, 26, 22, 18, 12, 8)
WEEKDAYS = (10, 11, 11, 11, 10, 8, 7)
WORKING_HOURS = (3, 2, 1, 1, 2, 8, 26, 62, 80, 42, 28, 30, 38, 36, 32, 38, 58, 86, 70, 46, 30, 20, 12, 6)
FREE_HOURS = (9, 7, 5, 3, 2, 3, 6, 12, 20, 34, 48, 58, 62, 64, 64, 60, 56, 50, 42, 34, 26, 20, 16, 12)

# Rows per 10,000 that are beyond repair, by what is wrong with them.
FAULTS = {
    "torn_line": 15,
    "missing_field": 60,
    "duplicate": 90,
    "unknown_station": 25,
    "outside_period": 30,
    "false_start": 80,
    "never_docked": 40,
    "impossible_distance": 25,
    "too_fast": 20,
}
MISSPELT = 70  # rows per 10,000 with an oddly spelt start station: repairable
RIDER_MISSING = 50  # rows per 10,000 without a rider: repairable
OLD_KIOSKS = 9  # stations that write 31/12/2025 instead of 2025-12-31, all year
KILOMETRE_KIOSKS = 5  # the busiest of them also report kilometres, until their firmware is updated


class City(NamedTuple):
    """What stays the same all year; stations are numbered from 1, tables are indexed by number - 1."""

    places_m: list[tuple[int, int]]
    popular: list[int]  # station numbers, the busier the more often
    kilometres_until: dict[int, int]  # station -> first part (from 1) in which it reports metres
    day_first: frozenset[int]
    hills: frozenset[int]  # people leave from here, but a quarter of those who would come do not climb


class Hire(NamedTuple):
    """One line before it is written; a correct pipeline keeps it, repaired, if it has no fault."""

    fields: list[str]
    fault: str | None
    repairs: tuple[str, ...]
    distance_m: int
    duration_s: int


def build_city(seed: int, parts: int) -> City:
    """Where the stations are, how busy they are, and which kiosks run old firmware until which part."""
    everywhere = range(1, STATIONS + 1)
    draws = {station: _draws(seed, 0, station) for station in everywhere}
    by_demand = sorted(everywhere, key=lambda station: draws[station][0])
    old = by_demand[3::7][:OLD_KIOSKS]
    return City(
        places_m=[(draws[station][1] % 6_000, draws[station][2] % 4_500) for station in everywhere],
        popular=_table(by_demand, [400 // (rank + 6) for rank in range(STATIONS)]),
        kilometres_until={
            station: 1 + max(1, parts * (index + 2) // (KILOMETRE_KIOSKS + 1))
            for index, station in enumerate(old[:KILOMETRE_KIOSKS])
        },
        day_first=frozenset(old),
        hills=frozenset(by_demand[4::6]),
    )


def part_days(number: int, parts: int) -> tuple[date, date]:
    """First and last day of a part (numbered from 1); parts cut the year evenly."""
    start = date(YEAR, 1, 1)
    first = DAYS * (number - 1) // parts
    return start + timedelta(days=first), start + timedelta(days=DAYS * number // parts - 1)


def part_hires(city: City, *, seed: int, number: int, parts: int, count: int) -> Iterator[Hire]:
    """The lines of one part in upload order."""
    first, last = part_days(number, parts)
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    day_table = _table(days, [MONTHS[day.month - 1] * WEEKDAYS[day.weekday()] // 8 for day in days])
    working_hours, free_hours = _table(range(24), WORKING_HOURS), _table(range(24), FREE_HOURS)
    fault_table = [name for name, per_10k in FAULTS.items() for _ in range(per_10k)]
    recent: deque[Hire] = deque(maxlen=200)  # the last good lines: what a double upload repeats
    for row in range(count):
        draws = _draws(seed, number, row)
        fault = fault_table[draws[10] % 10_000] if draws[10] % 10_000 < len(fault_table) else None
        if fault == "duplicate" and recent:
            earlier = recent[draws[11] % len(recent)]
            yield earlier._replace(fault="duplicate", repairs=())
            continue
        day = day_table[draws[0] % len(day_table)]
        hours = free_hours if day.weekday() >= 5 else working_hours
        hire = _hire(
            city,
            draws,
            trip_id=f"T{number:02d}{row:06d}",
            day=day,
            clock=(hours[draws[1] % len(hours)], draws[2] % 3600 // 60, draws[2] % 60),
            fault=None if fault == "duplicate" else fault,
            number=number,
        )
        if hire.fault is None:
            recent.append(hire)
        yield hire


def _hire(
    city: City,
    draws: tuple[int, ...],
    *,
    trip_id: str,
    day: date,
    clock: tuple[int, int, int],
    fault: str | None,
    number: int,
) -> Hire:
    """One hire as its kiosk would upload it."""
    start, end = (city.popular[draw % len(city.popular)] for draw in draws[3:5])
    if end in city.hills and draws[13] % 4 == 0:
        end = city.popular[draws[14] % len(city.popular)]
    (x1, y1), (x2, y2) = city.places_m[start - 1], city.places_m[end - 1]
    straight_m = abs(x1 - x2) + abs(y1 - y2) if start != end else 800 + draws[5] % 4_000
    distance_m = 300 + straight_m * (105 + draws[5] % 40) // 100
    speed_mm_s = 2_600 + draws[6] % 1_400 + draws[7] % 1_400
    duration_s = 60 + distance_m * 1000 // speed_mm_s
    start_text, end_text = f"S{start:03d}", f"S{end:03d}"
    date_text = f"{day.day:02d}/{day.month:02d}/{day.year}" if start in city.day_first else day.isoformat()
    repairs = ["day_first_date"] if start in city.day_first else []

    detail = draws[11]
    if fault == "unknown_station":
        end_text = f"S{900 + detail % 100}"
    elif fault == "outside_period":  # the kiosk's battery died and its clock began anew
        date_text = ("2000-01-01", "01/01/1970", "2036-02-07")[detail % 3]
    elif fault == "false_start":  # taken, found broken, put back
        duration_s, distance_m, end_text = 5 + detail % 50, 0, start_text
    elif fault == "never_docked":
        duration_s = 86_401 + detail % 600_000
    elif fault == "impossible_distance":
        distance_m = (-1 - detail % 5_000, 100_001 + detail % 900_000)[detail % 2]
    elif fault == "too_fast":  # carried by the rebalancing van
        duration_s = max(60, distance_m * 1000 // (20_000 + detail % 8_000))
        distance_m = max(distance_m, duration_s * 20)
    if draws[12] % 10_000 < MISSPELT and fault is None:
        start_text = (start_text.lower(), f" {start_text} ", f"S{start}", f"s{start}")[detail % 4]
        repairs += ["station_spelling"] if start_text != f"S{start:03d}" else []
    rider = ("member", "member", "casual", "member", "day_pass", "member", "casual", "member")[draws[8] % 8]
    if draws[8] // 8 % 10_000 < RIDER_MISSING:
        rider = ""
        repairs += ["rider_missing"]
    distance_text = str(distance_m)
    if number < city.kilometres_until.get(start, 0):
        distance_text = f"{'-' * (distance_m < 0)}{abs(distance_m) // 1000}.{abs(distance_m) % 1000:03d}"
        repairs += ["kilometres"]

    fields = [
        trip_id,
        f"B{1 + draws[9] % BIKES:04d}",
        start_text,
        end_text,
        f"{date_text}{' ' if '/' in date_text else 'T'}{clock[0]:02d}:{clock[1]:02d}:{clock[2]:02d}",
        str(duration_s),
        distance_text,
        rider,
    ]
    if fault == "missing_field":
        fields[(1, 3, 4, 5, 6)[detail % 5]] = ""
    elif fault == "torn_line":  # the upload broke off
        fields = fields[: 2 + detail % 4]
    return Hire(fields, fault, tuple(repairs), distance_m, duration_s)


class Truth:
    """Adds up what was put in, for comparison with what a pipeline finds."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.rows = self.kept = self.distance_m = self.duration_s = 0

    def add(self, hires: Iterable[Hire]) -> None:
        for hire in hires:
            self.rows += 1
            if hire.fault is not None:
                self.faults[hire.fault] += 1
                continue
            self.kept += 1
            self.distance_m += hire.distance_m
            self.duration_s += hire.duration_s
            self.repairs.update(hire.repairs)

    def as_json(self, city: City) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "kept": self.kept,
            "distance_m": self.distance_m,
            "duration_s": self.duration_s,
            "rejected": dict(sorted(self.faults.items())),
            "repaired": dict(sorted(self.repairs.items())),
            "kilometre_stations": sorted(f"S{station:03d}" for station in city.kilometres_until),
        }


def _draws(seed: int, part: int, row: int) -> tuple[int, ...]:
    """Sixteen independent 32-bit numbers that belong to this row alone."""
    return struct.unpack("<16I", hashlib.blake2b(b"trips %d %d %d" % (seed, part, row)).digest())


def _table(values: Iterable[Any], weights: Iterable[int]) -> list[Any]:
    """Each value as often as its weight says: a weighted choice is then one look-up."""
    return [value for value, weight in zip(values, weights, strict=True) for _ in range(weight)]


def rows_of_parts(rows: int, parts: int) -> list[int]:
    """How many of the rows each part gets: by season, adding up to exactly ``rows``."""
    demand = [MONTHS[part_days(number, parts)[0].month - 1] for number in range(1, parts + 1)]
    total = sum(demand)
    borders = [0, *(rows * so_far // total for so_far in accumulate(demand))]
    return [after - before for before, after in pairwise(borders)]
