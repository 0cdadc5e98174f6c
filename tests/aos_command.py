"""The command ``aos`` as a user runs it: in a process of its own, in a folder with the user's module."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from aos_workflow.embedded.process import Account, Process
from tests.worker_process import PATIENCE_S, ROOT, wait_until

AOS = [sys.executable, "-m", "aos_workflow.cli"]

#: A user's module. ``nap`` waits for a file, so that a test decides how long a step takes.
SHOP = """
import pathlib, time
from celery import Celery, group, shared_task
from aos_workflow import StepContext, WorkflowTask, step, workflow

app = Celery("shop", task_cls=WorkflowTask)

@shared_task
def price(item):
    return item["cents"] * item["count"]

@step(joins=True)
def total(cents):
    return sum(cents)

@step
def invoice(ctx: StepContext, cents, customer):
    return {"number": str(ctx.uuid()), "customer": customer, "cents": cents}

@step
def check(path):
    if not pathlib.Path(path).exists():
        raise ValueError("there is no [red]stamp[/red]\\nat all")
    return path

@step
def nap(path):
    pathlib.Path(path + ".begun").touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    return path

@workflow("orders")
def orders(customer: str, items: list):
    return group(price.s(item) for item in items) | total.s() | invoice.s(customer)

@workflow("stamped")
def stamped(path: str):
    return price.si({"cents": 1, "count": 2}) | check.si(path) | invoice.s("ada")

@workflow("napping")
def napping(path: str):
    return nap.si(path) | check.s()
"""

ORDER = json.dumps({"customer": "ada", "items": [{"cents": 250, "count": 2}, {"cents": 99, "count": 1}]})


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, which is one JSON document and nothing else."""
        return json.loads(self.out)


def shop_folder(folder: Path) -> Path:
    """A user's project: a folder with ``shop.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    return folder


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the settings of Celery and this project, then ``variables``."""
    ours = ("AOS_", "CELERY_", "PROMETHEUS_", "NO_COLOR", "FORCE_COLOR")
    # embedded's Process takes no value of several lines
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and "\n" not in value}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def aos(*words: str, folder: Path, **variables: str) -> Done:
    """Run ``aos WORDS`` in the folder and wait for its end."""
    ran = subprocess.run(
        [*AOS, *words],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(status=ran.returncode, out=ran.stdout, err=ran.stderr)


class AosProcess:
    """``aos WORDS`` in the background; it gets SIGKILL when this process ends."""

    def __init__(self, *words: str, folder: Path, log: Path, **variables: str) -> None:
        self.log_path = log
        go = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
        self._process = Process(
            [sys.executable, "-c", go, str(folder), *AOS, *words],
            log=log,
            signum=signal.SIGKILL,
            account=Account(),
            env={**environment(variables), "PYTHONUNBUFFERED": "1"},
        )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until it has printed the text so many times; AssertionError with its log if it does not."""
        wait_until(lambda: self.log.count(text) >= times or self._process.done.is_set(), what=repr(text))
        assert self.log.count(text) >= times, self.log

    def end(self, signum: signal.Signals) -> int | None:
        """Send it a signal and wait for its end; its exit status, negative for a signal."""
        os.kill(self.pid, signum)
        ended = self._process.done.wait(PATIENCE_S)
        self.kill()
        assert ended, self.log
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()

    def children(self) -> dict[int, str]:
        """Pid -> command line of its living children."""
        found = {}
        for listing in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for pid in listing.read_text().split():
                found[int(pid)] = command_line(int(pid))
        return found


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def pytest_command(*words: str) -> list[str]:
    """``python -m pytest`` with this package's plugin, which pytest finds by itself where the package is installed."""
    is_installed = bool(entry_points(group="pytest11", name="aos_workflow"))
    return [sys.executable, "-m", "pytest", *([] if is_installed else ["-p", "aos_workflow.testing"]), *words]
