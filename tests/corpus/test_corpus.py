"""Planted faults are named with class and line, and nothing is said against clean workflows.

AOS_CORPUS_REPORT=path collects the confusion table there (Markdown, or JSON if it ends in .json).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.case import FOLDER, batches
from tests.corpus.judging import Judged
from tests.corpus.report import collect

ROOT = FOLDER.parents[1]


def judgements(batch: str, folder: Path) -> list[Judged]:
    """What the product says about a batch. In a process of its own: the cases would be this one's Celery apps."""
    command = [sys.executable, "-m", "tests.corpus.judging", batch, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [Judged(**{**row, "marked": tuple(row["marked"])}) for row in map(json.loads, done.stdout.splitlines())]
    if os.environ.get("AOS_CORPUS_REPORT"):
        collect(Path(os.environ["AOS_CORPUS_REPORT"]), rows)
    return rows


@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch", list(batches()))
def test_verdict_cause_and_line_are_right(batch: str, tmp_path: Path) -> None:
    """Replay matches where capture serves; elsewhere explain names class and line; clean workflows match."""
    rows = judgements(batch, tmp_path / "stage")
    wrong = [
        f"{row.name}: {row.planted} ({row.expected}) at {' or '.join(row.marked) or '-'}, "
        f"but {row.verdict} {row.reported} at {row.location or '-'}\n    {row.said}"
        for row in rows
        if not row.is_right
    ]
    assert len(rows) == len(batches()[batch])
    assert not wrong, "\n".join(wrong)
