"""Is the corpus what it says? python -m tests.corpus.check [NAME...]

Every case is performed twice in fresh interpreters, with nothing captured and nothing served: planted faults must
make the two performances differ, clean workflows must be equal unless they say that only the recording makes them so.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.corpus.case import Planted, batches, planted
from tests.corpus.stage import Stage


def wrong(folder: Path, cases: Iterable[Planted]) -> list[str]:
    """What is not as the cases say, a line each."""
    stage = Stage(folder, cases)
    try:
        first = stage.record(bare=True)
        stage.change()
        second = stage.perform_bare_there()
    finally:
        stage.close()
    return [complaint for case in stage.cases for complaint in _complaints(case, first[case.name], second[case.name])]


def _complaints(one: Planted, first: dict, second: dict) -> list[str]:
    case, name = one.case, f"{one.kind}/{one.name}"
    if first["status"] != "succeeded":
        return [f"{name} failed: {first['error']}"]
    if second["status"] != "succeeded" and not case.differs:
        return [f"{name} failed the second time: {second['error']}"]
    is_equal = (first["hash"], first["output"]) == (second["hash"], second["output"])
    if is_equal and case.differs and not case.sometimes:
        return [f"{name} gave the same twice: {first['output'][:200]}"]
    if not is_equal and not case.differs:
        return [f"{name} differs: {first['output'][:200]} / {second['output'][:200]}"]
    return []


def main(chosen: list[str]) -> int:
    """Check the named cases, or all; tells what is wrong."""
    parts = [
        [planted(kind, name) for kind, name in part if not chosen or name in chosen] for part in batches().values()
    ]
    with tempfile.TemporaryDirectory(prefix="aos-corpus-") as folder, ThreadPoolExecutor(2) as pool:
        places = [Path(folder, str(number)) for number in range(len(parts))]
        found = [line for lines in pool.map(wrong, places, filter(None, parts)) for line in lines]
    print(*found, f"{sum(map(len, parts))} cases, {len(found)} wrong", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
