"""What the product says about a part of the corpus: python -m tests.corpus.judging BATCH FOLDER [COMMAND].

Records every case of the batch in one process, changes the world, asks ``aos explain --json`` (or COMMAND) about all
goldens in a process elsewhere, and prints a line of JSON for each case: see ``Judged``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.corpus.case import Planted, batches, planted
from tests.corpus.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A case and its verdict.

    planted, reported      the class, "none" where there is no fault or no divergence was found
    location, marked       what was named, "file.py:line", and the lines that would be right
    is_named               verdict and cause are right (a cause in ``also`` is)
    is_located             the location is right; None where nothing diverged
    """

    name: str
    planted: str
    expected: str
    verdict: str
    reported: str
    location: str
    marked: tuple[str, ...]
    is_named: bool
    is_located: bool | None
    said: str = ""

    @property
    def is_right(self) -> bool:
        return self.is_named and self.is_located is not False


def explained(stage: Stage, command: str = "explain") -> dict[str, dict[str, Any]]:
    """The answer about every golden on the stage, by workflow: the one place that knows the command."""
    done = stage.aos(command, str(stage.goldens), "--json")
    try:
        results = json.loads(done.stdout)["results"]
    except (ValueError, KeyError) as error:
        raise RuntimeError(
            f"aos {command} ended with {done.returncode}: {error}\n{done.stdout}\n{done.stderr}"
        ) from None
    return {result["workflow"]: result for result in results}


def judged(one: Planted, result: Mapping[str, Any] | None) -> Judged:
    """Is the answer about a case right?"""
    case, marked = one.case, one.marked()
    answer = result or {"verdict": "missing"}
    divergence = answer.get("divergence") or {}
    verdict, reported = answer["verdict"], divergence.get("cause") or "none"
    location = _place(divergence.get("location"))
    has_diverged = verdict == "diverged"
    right = {"matched": ("matched",), "ignored": ("ignored",), "diverged": (), "either": ("matched",)}[case.expected]
    is_cause = has_diverged and case.expected in ("diverged", "either") and reported in (case.cause, *case.also)
    return Judged(
        name=one.name,
        planted=case.cause or "none",
        expected=case.expected,
        verdict=verdict,
        reported=reported,
        location=location,
        marked=tuple(sorted(marked)),
        is_named=verdict in right or is_cause,
        is_located=location in marked if has_diverged else None,
        said="" if verdict in right else json.dumps(answer)[:2000],
    )


def _place(location: str | None) -> str:
    """The last part of a path and its line."""
    return (location or "").replace("\\", "/").rpartition("/")[2]


def judge(folder: Path, batch: str, command: str = "explain") -> list[Judged]:
    """Record a batch, change its world, and judge what the product says."""
    stage = Stage(folder, [planted(kind, name) for kind, name in batches()[batch]])
    try:
        for told in stage.record().values():
            if told["status"] != "succeeded":
                raise RuntimeError(f"{told['name']} failed: {told['error']}")
        stage.change()
        answers = explained(stage, command)
    finally:
        stage.close()
    return [judged(case, answers.get(case.name)) for case in stage.cases]


def main(batch: str, folder: str, command: str = "explain") -> None:
    """Print a line for every case of the batch."""
    for row in judge(Path(folder), batch, command):
        print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
