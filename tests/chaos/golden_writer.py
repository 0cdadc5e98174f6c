"""A process that works on a folder of goldens until it is killed: ``python -m tests.chaos.golden_writer``.

It reads one JSON object per line, forks a child that does the work, prints the child's pid and, when the child has
ended, its exit status (below 0: the signal). Forking from here costs milliseconds; a new interpreter costs a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aos_workflow import faults
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import open_database
from aos_workflow.golden import GoldenRecorder
from aos_workflow.goldens.keeping import archive, prune
from aos_workflow.goldens.ledger import GoldenLedger
from aos_workflow.goldens.resign import resign
from aos_workflow.goldens.verify import Verifier
from aos_workflow.signing import KeyRing
from tests.worker_process import ROOT

PATIENCE_S = 60.0


def work(order: dict[str, Any]) -> None:
    """One order: record everything that is wanted, re-sign, archive or prune."""
    faults.install(order["faults"])
    store = CheckpointStore(open_database(order["url"]))
    ledger, folder = GoldenLedger(store), Path(order["folder"])
    keys = KeyRing.of(order["newest"], order["older"])
    verifier = Verifier(keys, ledger=ledger, home=folder)
    match order["work"]:
        case "record":
            recorder = GoldenRecorder(folder, keys, store, ledger)
            while wanted := store.golden_wanted(10):
                for run_id in wanted:
                    recorder.record(run_id)
        case "resign":
            resign(folder, verifier, batch=2)
        case "prune":
            prune(folder, verifier, older_than_days=-1)
        case "archive":
            archive(folder, Path(order["to"]), verifier, remove=True)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        _say(child)
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


class Writer:
    """The process, as a test drives it."""

    def __init__(self, **order: Any) -> None:
        self._order = {"faults": "", "older": [], **order}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.golden_writer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def run(self, work: str, *, kill_after_s: float | None = None, **changes: Any) -> int:
        """Do the work in a child, which is killed after so long; returns its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**self._order, "work": work, **changes}) + "\n")
        self._process.stdin.flush()
        child = self._line()
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(child, signal.SIGKILL)  # nobody has waited for it yet, so the pid is still its own
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def moments(seed: int, count: int, longest_s: float) -> list[float]:
    """Random delays, the same for the same seed."""
    chance = random.Random(seed)
    return [chance.uniform(0, longest_s) for _ in range(count)]


if __name__ == "__main__":
    main()
