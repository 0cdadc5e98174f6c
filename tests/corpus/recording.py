"""Performs cases in a process of its own and writes their goldens: python -m tests.corpus.recording FOLDER.

FOLDER holds the cases' copies as the package ``planted`` and ``orders.json``, a list of Order as JSON objects.
A line of JSON on standard output tells about each: {"name", "run_id", "status", "hash", "output", "error"}.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.canonical import encode
from aos_workflow.clock import ManualClock
from aos_workflow.database import open_database
from aos_workflow.golden import GoldenRecorder
from aos_workflow.schema import metadata
from aos_workflow.settings import Settings
from aos_workflow.signing import KeyRing
from aos_workflow.task import CeleryTasks
from tests.stack import AppEngine

#: What the goldens of the corpus are signed with.
SECRET = "c0" * 32
#: The logical time of every run; retries move it instead of waiting.
NOW_S = 1_795_000_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One case to perform: its module, and the run to perform after ``runs_before``.

    capture   "none" performs it bare whatever the workflow says; empty: as it says
    golden    write one
    """

    module: str
    inputs: Any = None
    seed: int = 0
    runs_before: tuple[Any, ...] = field(default=())
    capture: str = ""
    golden: bool = True


def write_orders(folder: Path, orders: list[Order]) -> None:
    """Leave the orders where the process looks for them."""
    text = json.dumps([asdict(order) for order in orders])
    (folder / "orders.json").write_text(text, encoding="utf-8")


def write_golden(parts: Runtime, app: Any, run_id: str, folder: Path) -> None:
    """Write the golden of a finished run into ``folder``: the one place that knows how goldens are made."""
    recorder = GoldenRecorder(
        folder, KeyRing.of(SECRET), parts.store, parts.golden_ledger, facts_of=CeleryTasks(app).facts
    )
    recorder.record(run_id)


@contextmanager
def inline_parts(folder: Path) -> Iterator[Runtime]:
    """The parts of an engine in this process, its runs in a SQLite file."""
    url = f"sqlite:///{folder / 'runs.db'}"
    tables = open_database(url)
    metadata.create_all(tables)
    tables.dispose()
    parts = Runtime(Settings(database_url=url), clock=ManualClock(NOW_S), kind="corpus")
    with runtime_as(parts):
        yield parts
    parts.close()


def perform(parts: Runtime, order: Order, folder: Path) -> dict[str, Any]:
    """Perform an order's runs; returns what is to be told about the last one."""
    module = importlib.import_module(order.module)
    engine, flow = AppEngine(parts, module.app), module.flow
    if order.capture:
        flow.terms = replace(flow.terms, capture=order.capture)
    for number, inputs in enumerate(order.runs_before, 1):
        engine.run_here(flow, inputs, seed=order.seed + number)
    result = engine.run_here(flow, order.inputs, seed=order.seed)
    if order.golden and result.error is None:
        write_golden(parts, module.app, result.run_id, folder / "goldens")
    return {
        "name": flow.name,
        "run_id": result.run_id,
        "status": result.status.value,
        "hash": result.workflow_hash,
        "output": encode(result.output),
        "error": result.error and f"{result.error.message}\n{result.error.traceback}",
    }


def main(folder: Path) -> None:
    """Perform all orders, each told as soon as it is done."""
    logging.disable(logging.CRITICAL)  # what the cases log is part of them, not of the report
    sys.path.insert(0, str(folder))
    (folder / "goldens").mkdir(exist_ok=True)
    orders = [Order(**given) for given in json.loads((folder / "orders.json").read_text(encoding="utf-8"))]
    told = sys.stdout
    with redirect_stdout(sys.stderr), inline_parts(folder) as parts:
        for order in orders:
            print(json.dumps(perform(parts, order, folder)), file=told, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
