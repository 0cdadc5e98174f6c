"""The confusion table of the corpus, collected over several processes: planted class by reported class."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.corpus.case import CLASSES
from tests.corpus.judging import Judged

#: The rows and columns of the table.
ANSWERS = (*CLASSES, "unknown", "none")


def collect(path: Path, rows: Iterable[Judged]) -> None:
    """Add rows to the report at ``path``: JSON if it is so called, else Markdown, with the rows in ``PATH.rows``.

    A row of a case that is there already replaces it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_name(f"{path.name}.rows")
    with kept.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several test processes write here
        file.seek(0)
        known = {row["name"]: row for row in map(json.loads, file)}
        known |= {row.name: {**asdict(row), "is_right": row.is_right} for row in rows}
        file.truncate(0)
        file.writelines(f"{json.dumps(known[name])}\n" for name in sorted(known))
        file.flush()
        all_rows = [known[name] for name in sorted(known)]
        path.write_text(as_json(all_rows) if path.suffix == ".json" else as_markdown(all_rows), encoding="utf-8")


def confusion(rows: Iterable[dict[str, Any]]) -> dict[str, Counter[str]]:
    """How often each planted class was reported as what."""
    table: dict[str, Counter[str]] = {answer: Counter() for answer in ANSWERS}
    for row in rows:
        table.setdefault(row["planted"], Counter())[row["reported"]] += 1
    return {planted: counts for planted, counts in table.items() if counts}


def as_json(rows: list[dict[str, Any]]) -> str:
    table = {planted: dict(counts) for planted, counts in confusion(rows).items()}
    return json.dumps({"confusion": table, "summary": summary(rows), "cases": rows}, indent=2) + "\n"


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Counts over all cases. ``served`` are faults that the recording answered, as it must.

    ``named`` counts a cause in the case's ``also`` as right, ``named_exactly`` does not.
    """
    faults = [row for row in rows if row["planted"] != "none"]
    diverged = [row for row in faults if row["verdict"] == "diverged"]
    return {
        "faults": len(faults),
        "diverged": len(diverged),
        "named": sum(row["is_named"] for row in diverged),
        "named_exactly": sum(row["reported"] == row["planted"] for row in diverged),
        "located": sum(bool(row["is_located"]) for row in diverged),
        "served": sum(row["is_named"] for row in faults if row["verdict"] == "matched"),
        "clean": len(rows) - len(faults),
        "clean_right": sum(row["is_named"] for row in rows if row["planted"] == "none"),
        "wrong": sum(not row["is_right"] for row in rows),
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A table with a row for each planted class: what was reported, and how often the line was right."""
    lines = ["| planted | cases | reported as | line right |", "|---|---|---|---|"]
    for planted, counts in confusion(rows).items():
        of_class = [row for row in rows if row["planted"] == planted]
        reported = ", ".join(f"{_said(planted, answer)} {count}" for answer, count in counts.most_common())
        diverged = [row for row in of_class if row["is_located"] is not None]
        located = f"{sum(row['is_located'] for row in diverged)} of {len(diverged)}" if diverged else "-"
        name = "clean workflows" if planted == "none" else f"`{planted}`"
        lines.append(f"| {name} | {len(of_class)} | {reported} | {located} |")
    facts = summary(rows)
    lines += [
        "",
        f"{facts['faults']} planted faults: {facts['served']} answered from the recording, {facts['named']} of "
        f"{facts['diverged']} divergences named ({facts['named_exactly']} as planted), "
        f"{facts['located']} with the right line. "
        f"{facts['clean']} clean workflows, {facts['clean_right']} of them with nothing said against them.",
    ]
    wrong = [row for row in rows if not row["is_right"]]
    if wrong:
        lines += ["", "| wrong | planted | verdict | reported | location | marked |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row['name']} | {row['planted']} | {row['verdict']} | {row['reported']} | {row['location'] or '-'} | "
            f"{', '.join(row['marked']) or '-'} |"
            for row in wrong
        ]
    return "\n".join(lines) + "\n"


def _said(planted: str, answer: str) -> str:
    if answer == "none":
        return "nothing" if planted == "none" else "nothing (matched)"
    return f"`{answer}`"
