"""Writes the trips data set: one year of a fictional city's bicycle hires, with the dirt real uploads have.

    python -m examples.trips.generate --rows 200000 --parts 24 --seed 7 --out /tmp/trips

The same arguments give the same bytes everywhere; ``city.py`` is the model, README.md describes it.

Files written into the folder, each complete or absent:

- ``part-01.csv`` ...: the data, UTF-8, ``\\n`` line ends, header ``HEADER``;
- ``manifest.json``: what was uploaded (per part: file, rows, bytes, SHA-256), the pipeline's input;
- ``truth.json``: what dirt was put in and what clean data adds up to.  The pipeline never reads it;
  tests and readers compare its report with it.

Calling it again with the same arguments changes nothing and returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from examples.trips.city import HEADER, STATIONS, Truth, build_city, part_days, part_hires, rows_of_parts

MODEL = 1  # raised whenever the same arguments would give other bytes


def generate(folder: Path, *, rows: int = 200_000, parts: int = 24, seed: int = 7) -> dict[str, Any]:
    """Write the data set into ``folder`` and return its manifest.

    ``rows`` counts data lines over all parts, dirt included.  ValueError if ``parts`` is not in 1..99 or
    there are fewer than 50 rows a part (below that a median says nothing).
    """
    if not 1 <= parts <= 99:
        raise ValueError(f"parts={parts} is not between 1 and 99")
    if rows < 50 * parts:
        raise ValueError(f"rows={rows} is too few for {parts} parts; ask for at least {50 * parts}")
    arguments = {"model": MODEL, "rows": rows, "parts": parts, "seed": seed}
    existing = _already_there(folder, arguments)
    if existing is not None:
        return existing

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    city = build_city(seed, parts)
    entries: list[dict[str, Any]] = []
    truth = Truth()
    for number, count in enumerate(rows_of_parts(rows, parts), start=1):
        first, last = part_days(number, parts)
        hires = list(part_hires(city, seed=seed, number=number, parts=parts, count=count))
        text = "\n".join([HEADER, *(",".join(hire.fields) for hire in hires), ""]).encode()
        name = f"part-{number:02d}.csv"
        _write(folder / name, text)
        truth.add(hires)
        entries.append({
            "file": name,
            "first_day": first.isoformat(),
            "last_day": last.isoformat(),
            "rows": count,
            "bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        })  # fmt: skip
    manifest = {"generator": arguments, "stations": STATIONS, "parts": entries}
    _write(folder / "truth.json", _document(truth.as_json(city)))
    _write(folder / "manifest.json", _document(manifest))  # last: its presence means all is there
    return manifest


def _already_there(folder: Path, arguments: dict[str, int]) -> dict[str, Any] | None:
    """The folder's manifest if these arguments wrote it and every part still has its size."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        complete = manifest["generator"] == arguments and all(
            (folder / part["file"]).stat().st_size == part["bytes"] for part in manifest["parts"]
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return manifest if complete and (folder / "truth.json").exists() else None


def _document(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Complete or not at all, also when two processes write the same file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


def main(arguments: list[str] | None = None) -> None:
    """The command line; prints one line about what is in the folder."""
    parser = argparse.ArgumentParser(description="write the trips data set")
    parser.add_argument("--rows", type=int, default=200_000, help="data lines over all parts")
    parser.add_argument("--parts", type=int, default=24, help="files the year is cut into")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    options = parser.parse_args(arguments)
    manifest = generate(options.out, rows=options.rows, parts=options.parts, seed=options.seed)
    size_mb = sum(part["bytes"] for part in manifest["parts"]) // 1_000_000
    print(f"{options.rows} rows in {options.parts} parts, {size_mb} MB, in {options.out}")


if __name__ == "__main__":
    main()
