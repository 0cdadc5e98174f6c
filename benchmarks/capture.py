"""What capture costs: python benchmarks/capture.py [rounds]

1. A no-op step, with capture none, ambient and all: ``perform()`` alone, and as the engine performs it in this process
   with SQLite. Rounds of the three are interleaved; what is shown is the median of all rounds, and the median over
   the rounds of the ratio to the same round without capture.
2. Calls outside of any step: the original, and the gate in front of it.

All of it is CPU time: capture costs nothing else, and what a step waits for (the disk, other programs) would only
make its share look smaller.

It only measures. Whether a figure is good enough is for a person to say: no machine is always quiet.
"""

from __future__ import annotations

import datetime
import os
import random
import secrets
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from celery import Celery, chain

from aos_workflow import Workflow, WorkflowEngine, WorkflowTask
from aos_workflow.assembly import Runtime
from aos_workflow.context import StepContext
from aos_workflow.determinism import ambient
from aos_workflow.options import StepOptions
from aos_workflow.perform import perform
from aos_workflow.plan import Plan, Step
from aos_workflow.records import Granted, Run, RunStatus
from aos_workflow.settings import Settings
from aos_workflow.terms import Capture, Terms
from aos_workflow.upgrade import upgrade

CAPTURES: tuple[Capture, ...] = ("none", "ambient", "all")
PERFORMS, STEPS, CALLS = 400, 20, 5_000
NS_PER_S = 1_000_000_000
clock = time.process_time

app = Celery("benchmark", task_cls=WorkflowTask, set_as_current=False)


_FACTS: dict[str, Any] = {
    **dict.fromkeys(("idempotency_key", "finished_at", "workflow_hash", "error")),
    **dict.fromkeys(("logical_time", "created_at", "updated_at", "started_at"), 0.0),
    **dict.fromkeys(("seed", "epoch", "size"), 1),
    **dict.fromkeys(("done", "splices"), 0),
    **dict.fromkeys(("id", "workflow", "plan_digest", "inputs_digest"), "benchmark"),
}
RUN = Run(**_FACTS, status=RunStatus.RUNNING, inline=False)


@app.task(name="benchmark.nothing")  # type: ignore[untyped-decorator]
def nothing(*_: Any) -> None:
    return None


def main(rounds: int) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    calls = compare_calls(rounds)  # first: the originals must be seen before the gates are installed
    print(f"Python {sys.version.split()[0]}, {rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "perform() alone": interleaved(rounds, alone),
            "engine, SQLite": interleaved(rounds, in_engine(Path(folder))),
        }
    print(f"{'a no-op step':<20}" + "".join(f"{capture + ' us':>14}{'ratio':>8}" for capture in CAPTURES))
    for name, taken in steps.items():
        ratios = {c: median(mine / base for mine, base in zip(taken[c], taken["none"], strict=True)) for c in CAPTURES}
        print(f"{name:<20}" + "".join(f"{median(taken[c]) * 1e6:>14.1f}{ratios[c]:>8.3f}" for c in CAPTURES))
    print(f"\n{'outside of a step':<20}{'original ns':>14}{'gate ns':>14}{'extra ns':>14}")
    for name, (original, gate) in calls.items():
        print(f"{name:<20}{original:>14.0f}{gate:>14.0f}{gate - original:>14.0f}")


def interleaved(rounds: int, seconds_of: Callable[[Capture], float]) -> dict[Capture, list[float]]:
    """CPU seconds per step of every round; the order changes from round to round, so none is always the first."""
    for capture in CAPTURES:
        seconds_of(capture)  # installs, compiles, fills caches
    taken: dict[Capture, list[float]] = {capture: [] for capture in CAPTURES}
    for number in range(rounds):
        shift = number % len(CAPTURES)
        for capture in (*CAPTURES[shift:], *CAPTURES[:shift]):
            taken[capture].append(seconds_of(capture))
    return taken


def alone(capture: Capture) -> float:
    """CPU seconds per ``perform()`` of a body that does nothing, with nothing around it."""
    step = Step(address="1.nothing", task="benchmark.nothing")
    plan = Plan(steps=(step,), terms=Terms(capture=capture))
    granted = Granted(run=RUN, address=step.address, attempt=1, retries=0, outputs={}, started_at=0.0)
    options = StepOptions()
    began = clock()
    for _ in range(PERFORMS):
        context = StepContext(
            run_id="run", workflow="benchmark", address=step.address, attempt=1, seed=1, logical_time=0.0
        )
        perform(
            step,
            plan=plan,
            granted=granted,
            options=options,
            body=lambda args, kwargs: None,
            context=context,
            limit_bytes=10_000,
        )
    return (clock() - began) / PERFORMS


def in_engine(folder: Path) -> Callable[[Capture], float]:
    """CPU seconds per step of a chain of no-op steps that the engine performs in this process, checkpoints included."""
    url = f"sqlite:///{folder / 'benchmark.db'}"
    upgrade(url)
    engine = WorkflowEngine(Runtime(Settings(database_url=url)))
    flows = {
        capture: Workflow(
            f"benchmark.{capture}",
            chain(nothing.si() for _ in range(STEPS)),
            app=app,
            register=False,
            capture=capture,
            golden="never",
        )
        for capture in CAPTURES
    }

    def seconds_of(capture: Capture) -> float:
        began = clock()
        engine.run_here(flows[capture], seed=1)
        return (clock() - began) / STEPS

    return seconds_of


def compare_calls(rounds: int) -> dict[str, tuple[float, float]]:
    """Nanoseconds per call of the originals and of the gates, each the fastest of its rounds, interleaved."""

    def functions() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        return {
            "time.time": (time.time, ()),
            "time.monotonic": (time.monotonic, ()),
            "datetime.now()": (datetime.datetime.now, ()),
            "datetime.now(UTC)": (datetime.datetime.now, (datetime.UTC,)),
            "datetime.utcnow": (datetime.datetime.utcnow, ()),
            "date.today": (datetime.date.today, ()),
            "random.random": (random.random, ()),
            "random.randint": (random.randint, (1, 6)),
            "uuid.uuid4": (uuid.uuid4, ()),
            "os.urandom(16)": (os.urandom, (16,)),
            "secrets.token_hex": (secrets.token_hex, (16,)),
        }

    best: dict[str, list[float]] = {name: [float("inf")] * 2 for name in functions()}
    for _ in range(rounds):
        for which, switch in enumerate((ambient.uninstall, ambient.install)):
            switch()
            for name, (function, arguments) in functions().items():
                best[name][which] = min(best[name][which], per_call_ns(function, arguments))
    return {name: (original, gate) for name, (original, gate) in best.items()}


def per_call_ns(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The loop is part of both sides, so only the difference means something for the fastest of them."""
    began = clock()
    if arguments:
        for _ in range(CALLS):
            function(*arguments)
    else:
        for _ in range(CALLS):
            function()
    return (clock() - began) / CALLS * NS_PER_S


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
