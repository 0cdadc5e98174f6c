"""How fast goldens are replayed: a 10-step workflow, per core, and against calling the bare functions.

    python benchmarks/replay.py [--goldens 200] [--rounds 5]

Each round measures, interleaved: the bare functions called in order (what the user's own code costs), and the same
goldens replayed in this process by ``replay_recording`` (sealed, captured, compared). Medians over the rounds.
``no-op`` steps show what a replay costs by itself; ``1 ms`` steps what that means for steps that do something.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, chain

from aos_workflow import WorkflowTask, durable
from aos_workflow.assembly import Runtime
from aos_workflow.database import open_database
from aos_workflow.recording import Recording
from aos_workflow.replay.replayer import replay_recording
from aos_workflow.schema import metadata
from aos_workflow.settings import Settings

STEPS = 10
PAYLOAD = {"text": "x" * 400, "numbers": list(range(10))}

app = Celery("bench_replay", task_cls=WorkflowTask, set_as_current=True)


@app.task(name="bench.pass_on")
def pass_on(value: Any) -> Any:
    """A step that does nothing with about 500 bytes."""
    return value


@app.task(name="bench.compute")
def compute(value: Any) -> Any:
    """A step that computes for about a millisecond."""
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    return value


def recordings(engine_parts: Runtime, task: Any, count: int) -> list[Recording]:
    """So many finished runs of ten such steps."""
    flow = durable(chain(task.s(PAYLOAD), *(task.s() for _ in range(STEPS - 1))), app=app, capture="none")
    engine = engine_parts.engine
    results = [engine.run_here(flow, seed=seed) for seed in range(count)]
    return [engine_parts.recorder.recording(result.run_id) for result in results]


def bare(task: Any, count: int) -> None:
    """What replaying ``count`` goldens calls, and nothing else."""
    for _ in range(count):
        value: Any = PAYLOAD
        for _ in range(STEPS):
            value = task.run(value)


def timed(function: Callable[[], Any]) -> float:
    """Seconds of this process's own time, so that a busy machine does not count."""
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        metadata.create_all(open_database(url))
        parts = Runtime(Settings(database_url=url, golden_dir=Path(folder) / "golden", golden_secret="benchmark"))
        print(f"{'steps':8} {'goldens/s per core':>19} {'us per step':>12} {'bare us per step':>17} {'ratio':>7}")
        for name, task in (("no-op", pass_on), ("1 ms", compute)):
            made = recordings(parts, task, min(options.goldens, 50))
            count = options.goldens
            chosen = [made[index % len(made)] for index in range(count)]
            tasks = parts.tasks
            replays, calls = [], []
            for _ in range(options.rounds):
                calls.append(timed(lambda: bare(task, count)))  # noqa: B023
                replays.append(timed(lambda: [replay_recording(one, tasks) for one in chosen]))  # noqa: B023
            replay_s, bare_s = statistics.median(replays), statistics.median(calls)
            steps = count * STEPS
            print(
                f"{name:8} {count / replay_s:19.0f} {replay_s / steps * 1e6:12.1f} {bare_s / steps * 1e6:17.2f} "
                f"{replay_s / bare_s:7.2f}"
            )
        parts.close()


if __name__ == "__main__":
    main()
