"""Stage: a folder in which cases are recorded in one world and performed again in another.

stage = Stage(folder, cases)        copies the cases, prepares their worlds
stage.record()                      in a process here
stage.change()                      edits sources, changes worlds
stage.aos("replay", ...)            in a process elsewhere: other hash seed, zone, folder, home, user, host
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.corpus.case import FOLDER, Edit, Planted, World
from tests.corpus.recording import SECRET, Order, write_orders
from tests.corpus.server import AnsweringServer

ROOT = FOLDER.parents[1]
#: The Celery app that `aos` loads: a module with the tasks and workflows of all cases on the stage.
APP = "planted_app"
_APP_SOURCE = '''"""All cases on this stage, as one app."""

import importlib

from celery import Celery

from aos_workflow import WorkflowTask

CASES = {cases}
app = Celery("planted", task_cls=WorkflowTask)
for case in CASES:
    app.tasks.update(importlib.import_module(case).app.tasks)
app.set_current()
'''
#: What every case meets when it is recorded, and what it meets when it is performed again.
HERE = {"PYTHONHASHSEED": "101", "TZ": "Europe/Berlin", "HOSTNAME": "worker-1", "LOGNAME": "ada", "HOME": "here"}
THERE = {"PYTHONHASHSEED": "202", "TZ": "Asia/Tokyo", "HOSTNAME": "laptop-7", "LOGNAME": "grace", "HOME": "there"}


class Stage:
    """Cases that are recorded and performed again together. ``close`` it to stop its servers."""

    def __init__(self, folder: Path, cases: Iterable[Planted]) -> None:
        self.folder = folder
        self.cases = list(cases)
        self.environment: dict[str, str] = {}
        self._server, self._mortals = AnsweringServer(), [AnsweringServer() for _ in self.cases]
        shutil.copytree(FOLDER, folder / "planted", ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
        for place in ("here", "there", "goldens"):
            (folder / place).mkdir()
        cases_text = "[\n" + "".join(f'    "{self._module(case)}",\n' for case in self.cases) + "]"
        (folder / f"{APP}.py").write_text(_APP_SOURCE.format(cases=cases_text), encoding="utf-8")
        self._worlds = {
            case.name: self._world(case, mortal) for case, mortal in zip(self.cases, self._mortals, strict=True)
        }
        for case in self.cases:
            if case.case.prepare:
                case.case.prepare(self._worlds[case.name])

    @property
    def goldens(self) -> Path:
        return self.folder / "goldens"

    def record(self, *, bare: bool = False) -> dict[str, dict[str, Any]]:
        """Perform all cases in a fresh process here and write their goldens; what it told, by name.

        ``bare`` means without capture and without goldens.
        """
        return self._perform([self._order(case, bare) for case in self.cases], HERE)

    def perform_bare_there(self) -> dict[str, dict[str, Any]]:
        """Perform all cases once more in a fresh process elsewhere, nothing served."""
        bare = [Order(**{**_fields(self._order(case, True)), "runs_before": ()}) for case in self.cases]
        return self._perform(bare, THERE)

    def change(self) -> None:
        """Everything that happens between recording and replay."""
        for case in self.cases:
            for edit in case.case.edits:
                self._edit(case, edit)
            if case.case.before_replay:
                case.case.before_replay(self._worlds[case.name])

    def aos(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run an `aos` command elsewhere."""
        environment = self._environment(THERE) | {"AOS_APP": APP, "GOLDEN_HMAC_SECRET": SECRET}
        return self._run([sys.executable, "-m", "aos_workflow.cli", *arguments], environment, "there")

    def close(self) -> None:
        """Stop the servers."""
        for server in (self._server, *self._mortals):
            server.stop()

    def _perform(self, orders: list[Order], surroundings: dict[str, str]) -> dict[str, dict[str, Any]]:
        write_orders(self.folder, orders)
        command = [sys.executable, "-m", "tests.corpus.recording", str(self.folder)]
        done = self._run(command, self._environment(surroundings), surroundings["HOME"])
        told = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode or len(told) != len(orders):
            raise RuntimeError(f"recording ended with {done.returncode} after {len(told)} cases\n{done.stderr}")
        return {one["name"]: one for one in told}

    def _run(self, command: list[str], environment: dict[str, str], place: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, cwd=self.folder / place, capture_output=True, text=True, check=False
        )

    def _environment(self, surroundings: dict[str, str]) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AOS_", "CORPUS_", "GOLDEN_"))
        }
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        home = str(self.folder / surroundings["HOME"])
        settings = {"PYTHONPATH": path, "HOME": home, "USER": surroundings["LOGNAME"], "PYTHONDONTWRITEBYTECODE": "1"}
        return kept | surroundings | settings | self.environment

    def _world(self, case: Planted, mortal: AnsweringServer) -> World:
        folder = self.folder / "files" / case.name
        folder.mkdir(parents=True)
        return World(folder=folder, server=self._server, mortal=mortal, environment=self.environment)

    def _order(self, case: Planted, bare: bool) -> Order:
        world = self._worlds[case.name]
        places = {"folder": str(world.folder), "server": world.server.url, "mortal": world.mortal.url}
        return Order(
            module=self._module(case),
            inputs=case.filled(case.case.inputs, places),
            seed=case.case.seed,
            runs_before=tuple(case.filled(list(case.case.runs_before), places)),
            capture="none" if bare else "",
            golden=not bare,
        )

    def _module(self, case: Planted) -> str:
        return f"planted.{case.kind}.{case.name}"

    def _edit(self, case: Planted, edit: Edit) -> None:
        path = self.folder / "planted" / case.kind / (edit.file or f"{case.name}.py")
        source = path.read_text(encoding="utf-8")
        # Not on the line of CASE, which tells of the edit itself.
        body, mark, rest = source.partition("\nCASE = ")
        if body.count(edit.old) != 1:
            raise ValueError(f"{path.name} holds {edit.old!r} {body.count(edit.old)} times, not once")
        path.write_text(body.replace(edit.old, edit.new) + mark + rest, encoding="utf-8")


def _fields(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__slots__}
