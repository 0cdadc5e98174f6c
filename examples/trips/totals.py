"""Counts and sums of a part's trips, and of the parts; integers only, so the order does not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from examples.trips.cleaning import Trip

DISTANCE_BIN_M, DISTANCE_BINS = 250, 80  # the last bin of each holds all beyond
DURATION_BIN_S, DURATION_BINS = 60, 120


def tally(trips: Iterable[Trip]) -> dict[str, Any]:
    """Counts and sums. ``week`` has 168 hours from Monday 00:00; bins are ``DISTANCE_BIN_M`` metres and
    ``DURATION_BIN_S`` seconds wide."""
    count = distance_m = duration_s = 0
    week, distances, durations = [0] * 168, [0] * DISTANCE_BINS, [0] * DURATION_BINS
    starts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    riders: Counter[str] = Counter()
    for trip in trips:
        count += 1
        distance_m += trip.distance_m
        duration_s += trip.duration_s
        week[trip.weekday * 24 + trip.hour] += 1
        distances[min(trip.distance_m // DISTANCE_BIN_M, DISTANCE_BINS - 1)] += 1
        durations[min(trip.duration_s // DURATION_BIN_S, DURATION_BINS - 1)] += 1
        starts[trip.start] += 1
        ends[trip.end] += 1
        riders[trip.rider] += 1
    return {
        "trips": count,
        "distance_m": distance_m,
        "duration_s": duration_s,
        "week": week,
        "distances": distances,
        "durations": durations,
        "starts": dict(sorted(starts.items())),
        "ends": dict(sorted(ends.items())),
        "riders": dict(sorted(riders.items())),
    }


def add(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Two totals of the same keys as one."""
    return {name: _plus(value, part[name]) for name, value in whole.items()}


def median_bin(counts: Sequence[int]) -> int:
    """Index of the bin that holds the middle value; 0 if all are empty."""
    so_far = 0
    for index, count in enumerate(counts):
        so_far += count
        if so_far * 2 >= sum(counts) > 0:
            return index
    return 0


def _plus(one: Any, other: Any) -> Any:
    """Numbers add; maps add per key; a list of numbers adds per place, any other list is strung together."""
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}
    if isinstance(one, list) and one and isinstance(one[0], int):
        return [a + b for a, b in zip(one, other, strict=True)]
    return one + other
