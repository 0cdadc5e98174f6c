"""The steps of the trips pipeline: ordinary Celery tasks; the three that need more than that say so.

Rows never travel between steps.  A step reads the part's file, learns something, and returns a small JSON
object that the next step builds on: announced -> checked -> learned -> cleaned -> added up -> combined.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any

from celery import shared_task

from aos_workflow import StepContext, step
from examples.trips.cleaning import COLUMNS, WIDTH, Rules, judge_lines, judge_part, learn_speeds, read_lines
from examples.trips.report import render
from examples.trips.totals import add, tally


@shared_task
def read_manifest(data_dir: str, parts: int) -> dict[str, Any]:
    """What was uploaded; ValueError if the folder does not hold ``parts`` parts."""
    manifest: dict[str, Any] = json.loads((Path(data_dir) / "manifest.json").read_text(encoding="utf-8"))
    found = len(manifest["parts"])
    if found != parts:
        raise ValueError(f"{data_dir} holds {found} parts, not {parts}; start the run with parts={found}")
    return {"data_dir": data_dir, "stations": manifest["stations"], "parts": manifest["parts"]}


@shared_task
def check(manifest: dict[str, Any], number: int) -> dict[str, Any]:
    """The part is the file that was announced; counts its empty fields. ``number`` counts from 1."""
    part = manifest["parts"][number - 1]
    path = Path(manifest["data_dir"]) / part["file"]
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != part["sha256"]:
        raise ValueError(f"{path} is not the announced file (SHA-256 {digest}); write the data set again")
    lines, empty = 0, [0] * WIDTH
    for _, row in read_lines(path):
        lines += 1
        if "" in row:
            for column, field in enumerate(row):
                empty[column] += not field
    if lines != part["rows"]:
        raise ValueError(f"{path} has {lines} lines, {part['rows']} were announced")
    return {
        "path": str(path),
        "stations": manifest["stations"],
        "first_day": part["first_day"],
        "last_day": part["last_day"],
        "rows": lines,
        "empty": {name: count for name, count in zip(COLUMNS, empty, strict=True) if count},
    }


@shared_task
def learn(checked: dict[str, Any]) -> dict[str, Any]:
    """How fast people ride in these days, and which kiosks report kilometres instead of metres."""
    median_speed_mm_s, kilometre_stations = learn_speeds(Path(checked["path"]))
    return {
        **checked,
        "median_speed_mm_s": median_speed_mm_s,
        "kilometre_stations": kilometre_stations,
    }


@step
def clean(ctx: StepContext, learned: dict[str, Any]) -> dict[str, Any]:
    """Judges every line: how many are kept, repaired, rejected and why, with a random sample of the last."""
    path = Path(learned["path"])
    return {**learned, **judge_part(path, rules_of(learned), ctx.random)}


@shared_task
def add_up(cleaned: dict[str, Any]) -> dict[str, Any]:
    """The part's good trips in numbers; ValueError if they are not as many as ``clean`` kept."""
    trips = (line.trip for line in judge_lines(Path(cleaned["path"]), rules_of(cleaned)) if line.trip)
    totals = tally(trips)
    if totals["trips"] != cleaned["kept"]:
        found = f"{totals['trips']} good trips, {cleaned['kept']} before"
        raise ValueError(f"{cleaned['path']} changed while it was read: {found}")
    days = {"first_day": cleaned["first_day"], "rows": cleaned["rows"], "kept": cleaned["kept"]}
    return {
        **totals,
        "repaired": cleaned["repaired"],
        "rejected": cleaned["rejected"],
        "kilometre_stations": cleaned["kilometre_stations"],
        "sample": cleaned["sample"],
        "parts": [{**days, "median_speed_mm_s": cleaned["median_speed_mm_s"]}],
    }


@step(joins=True)
def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The year: sums of the parts, all their stations, one sample line of each kind."""
    whole = reduce(add, parts)
    one_of_a_kind = {line["reason"]: line for line in reversed(whole["sample"])}
    return {
        **whole,
        "kilometre_stations": sorted(set(whole["kilometre_stations"])),
        "sample": [one_of_a_kind[reason] for reason in sorted(one_of_a_kind)],
    }


@step(effect=True)
def write_report(totals: dict[str, Any], report_path: str) -> dict[str, Any]:
    """Writes the report, complete or not at all; doing it twice leaves the same file."""
    text = render(totals).encode()
    path = Path(report_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return {
        "report": report_path,
        "sha256": hashlib.sha256(text).hexdigest(),
        "rows": sum(part["rows"] for part in totals["parts"]),
        "kept": totals["trips"],
        "rejected": sum(totals["rejected"].values()),
    }


def rules_of(learned: dict[str, Any]) -> Rules:
    """The rules that the steps before ``clean`` announced and learned."""
    return Rules(
        first_day=date.fromisoformat(learned["first_day"]),
        last_day=date.fromisoformat(learned["last_day"]),
        stations=learned["stations"],
        median_speed_mm_s=learned["median_speed_mm_s"],
        kilometre_stations=frozenset(learned["kilometre_stations"]),
    )
