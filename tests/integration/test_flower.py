"""A real Flower beside a real worker: what an SRE sees of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from aos_workflow import durable
from aos_workflow.embedded.process import Account, Process
from tests.conformance.tasks import start, tag
from tests.stack import Stack
from tests.worker_process import ROOT, wait_until

APP = "tests.conformance.tasks"
pytestmark = [pytest.mark.services, pytest.mark.worker]


@pytest.fixture(scope="module")
def flower(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "celery", "-A", APP, "flower", f"--port={port}", "--address=127.0.0.1"]
    environment = {
        **os.environ, **stack.environment(APP), "FLOWER_UNAUTHENTICATED_API": "true", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    log = tmp_path_factory.mktemp("flower") / "flower.log"
    process = Process(command, log=log, signum=signal.SIGKILL, account=Account(), env=environment)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/healthcheck"), what="Flower is up")
    yield url
    process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def tasks_of(url: str, run_id: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/tasks", timeout=10) as answer:
        tasks: dict[str, Any] = json.load(answer)
    return {name: task for name, task in tasks.items() if name.startswith(run_id)}


def test_flower_shows_steps_by_name_run_and_address(flower: str, stack: Stack) -> None:
    """A run's steps are found by its id, under their own task names, with ``run / address`` as arguments."""
    engine = stack.engine(APP)
    stack.worker(APP, options=("-E",))
    run = engine.enqueue(durable(start.s("a") | tag.s("b")), seed=7)
    assert run.wait(timeout_s=60).status == "succeeded"
    wait_until(lambda: len(tasks_of(flower, run.id)) == 2, what="Flower has heard of both steps")
    shown = sorted((task["name"], task["args"]) for task in tasks_of(flower, run.id).values())
    assert shown == [(f"{APP}.start", f"{run.id} / 1.start"), (f"{APP}.tag", f"{run.id} / 2.tag")]
