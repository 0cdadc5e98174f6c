"""The line between a process and the one that replays for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aos_workflow.replay.child import Child

ECHO = """
import sys
from aos_workflow.replay.child import serve
serve(lambda request: {"echo": "x" * request["size"], "calls": request["calls"]})
"""


def test_answers_come_whole_and_in_order(tmp_path: Path) -> None:
    """An answer far larger than a pipe, and small ones after it, are told apart by their ends."""
    (tmp_path / "echo_for_child.py").write_text(ECHO)
    changes = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    child = Child("echo_for_child", environment=os.environ, changes=changes)
    try:
        answers = [child.ask({"size": size, "calls": size}, timeout_s=60) for size in (1, 5_000_000, 0, 70_000)]
    finally:
        child.close()
    assert [(len(answer["echo"]), answer["calls"]) for answer in answers] == [
        (1, 1), (5_000_000, 5_000_000), (0, 0), (70_000, 70_000),
    ]  # fmt: skip
