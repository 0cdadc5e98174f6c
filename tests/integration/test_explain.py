"""Explain, end to end: a user's module, a recorded run, and processes in which the divergence is looked at."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group

from aos_workflow.golden import GoldenRecorder
from aos_workflow.replay.explain import explain
from aos_workflow.replay.targets import Target
from aos_workflow.signing import KeyRing
from aos_workflow.task import CeleryTasks
from aos_workflow.testing import InlineEngine

_numbers = itertools.count()
HEAD = """
from celery import Celery, group, shared_task
from aos_workflow import StepContext, Workflow, WorkflowTask, step
app = Celery("NAME", task_cls=WorkflowTask)
"""
Explained = Callable[..., dict[str, Any]]


class Module:
    """A user's module in a folder of its own, and one recorded run of its ``flow``."""

    def __init__(self, folder: Path, engine: InlineEngine, source: str) -> None:
        self.name = f"explained_{os.getpid()}_{next(_numbers)}"
        self.path = folder / f"{self.name}.py"
        self.path.write_text((HEAD + source).replace("NAME", self.name), encoding="utf-8")
        module = importlib.import_module(self.name)
        result = engine.run_here(module.flow, seed=7)
        assert result.error is None
        parts = engine._parts
        recorder = GoldenRecorder(
            folder, KeyRing.of("0" * 64), parts.store, parts.golden_ledger, facts_of=CeleryTasks(module.app).facts
        )
        self.document = json.loads(json.dumps(recorder.recording(result.run_id).as_json()))

    def line_of(self, text: str) -> str:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return f"{self.path}:{next(number for number, line in enumerate(lines, 1) if text in line)}"

    def edit(self, old: str, new: str) -> None:
        self.path.write_text(self.path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def explained(self, **environment: str) -> dict[str, Any]:
        target = Target(name="run", golden=None, document=self.document)
        (result,) = explain([target], app=self.name, environment={**os.environ, **environment})
        return result


@pytest.fixture
def module(
    tmp_path: Path, aos_engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Module]]:
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[Module] = []

    def make(source: str) -> Module:
        made.append(Module(tmp_path, aos_engine, source))
        return made[-1]

    yield make
    for one in made:
        sys.modules.pop(one.name, None)


def cause_and_place(result: dict[str, Any]) -> tuple[str, str]:
    assert result["verdict"] == "diverged", result
    return result["divergence"]["cause"], result["divergence"]["location"]


def test_what_moves_is_told_from_what_is_only_logged(module: Callable[[str], Module]) -> None:
    """Of a clock and two draws, the one draw that reaches the output is named."""
    shop = module("""
import logging, random, time
@shared_task(name="NAME.offer")
def offer(cents):
    started, sample = time.time(), random.random()
    discount = random.randint(1, 10**9)
    logging.getLogger("shop").debug("%s %s", started, sample)
    return {"cents": cents, "discount": discount}
flow = Workflow("NAME", offer.s(5), capture="none")
""")
    assert cause_and_place(shop.explained()) == ("unseeded_random", shop.line_of("discount = "))


def test_an_order_that_happens_to_be_the_recorded_one_is_found_all_the_same(module: Callable[[str], Module]) -> None:
    """A set of two has the recorded order under half of all hash seeds; explain tries more than one."""
    shop = module("""
@shared_task(name="NAME.names")
def names(count):
    found = {f"word{number}" for number in range(count)}
    return [word for word in found]
flow = Workflow("NAME", names.s(9))
""")
    result = shop.explained(PYTHONHASHSEED=os.environ.get("PYTHONHASHSEED", "random"))
    assert cause_and_place(result) == ("set_order", shop.line_of("for word in found"))


def test_changed_code_is_named_with_the_changed_line(module: Callable[[str], Module]) -> None:
    """A helper that was edited is the cause, at the line that is another one."""
    shop = module("""
def taxed(cents):
    tax = cents * 19 // 100
    return cents + tax
@shared_task(name="NAME.price")
def price(cents):
    return taxed(cents)
flow = Workflow("NAME", price.s(1000))
""")
    shop.edit("* 19 //", "* 21 //")
    assert cause_and_place(shop.explained()) == ("code_change", shop.line_of("tax = "))


def test_a_variable_read_at_import_is_the_environment(
    module: Callable[[str], Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the module reads it, not where the step uses it."""
    monkeypatch.setenv("EXPLAINED_LIMIT", "5")
    shop = module("""
import os
LIMIT = int(os.environ.get("EXPLAINED_LIMIT", "1"))
@shared_task(name="NAME.cut")
def cut(rows):
    return rows[:LIMIT]
flow = Workflow("NAME", cut.s([1, 2, 3, 4, 5, 6, 7]))
""")
    assert cause_and_place(shop.explained(EXPLAINED_LIMIT="3")) == ("environment", shop.line_of("LIMIT = "))


def test_state_is_found_though_a_fresh_process_gives_the_recorded_answer(module: Callable[[str], Module]) -> None:
    """The first performance in a process matches; explain performs a second one."""
    shop = module("""
made = []
@shared_task(name="NAME.number")
def number(name):
    made.append(name)
    return len(made)
flow = Workflow("NAME", number.s("ada"))
""")
    result = shop.explained()
    assert cause_and_place(result) == ("process_state", shop.line_of("made.append"))
    assert result["woken_by"] == "a second time"


def test_threads_that_race_are_named_where_their_answers_are_gathered(module: Callable[[str], Module]) -> None:
    """as_completed gives whoever is first."""
    shop = module("""
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
def work(number):
    time.sleep(0.001)
    return number
@shared_task(name="NAME.gather")
def gather(count):
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work, number) for number in range(count)]
        return [future.result() for future in as_completed(futures)]
flow = Workflow("NAME", gather.s(60))
""")
    assert cause_and_place(shop.explained()) == ("thread_race", shop.line_of("in as_completed"))


def test_a_refused_call_is_named_by_its_line(module: Callable[[str], Module]) -> None:
    """A process that the step starts is refused by the seal and named."""
    shop = module("""
import subprocess
@shared_task(name="NAME.host")
def host():
    return subprocess.check_output(["date", "+%N"], text=True)
flow = Workflow("NAME", host.s())
""")
    assert cause_and_place(shop.explained()) == ("external_call", shop.line_of("check_output"))


def test_nothing_is_said_against_clean_code(module: Callable[[str], Module]) -> None:
    """Clock, chance, identities, environment and sets that do not reach the output are no fault."""
    shop = module("""
import os, time, random
CACHE = {}
@step(name="NAME.clean")
def clean(ctx: StepContext, words):
    CACHE[id(words)] = time.time() + random.random()
    if os.environ.get("EXPLAINED_VERBOSE"):
        print(CACHE)
    return {"words": sorted(set(words)), "draw": ctx.random.random(), "at": ctx.now.isoformat()}
flow = Workflow("NAME", group(clean.s(["b", "a"]), clean.s(["c"])), capture="none")
""")
    result = shop.explained()
    assert result["verdict"] == "matched"
    assert result["divergence"] is None


def test_a_step_whose_task_is_gone_is_an_error_of_its_own(module: Callable[[str], Module]) -> None:
    """Today's code cannot perform it, so nothing is said about a cause."""
    shop = module("""
@shared_task(name="NAME.price")
def price(cents):
    return cents
flow = Workflow("NAME", price.s(1))
""")
    shop.edit('.price")', '.cost")')
    result = shop.explained()
    assert result["verdict"] == "error"
    assert result["error"]["code"] == "GOLDEN_UNREADABLE"


def test_a_run_without_steps_is_matched(aos_engine: InlineEngine, tmp_path: Path) -> None:
    """An empty group is a run too: there is nothing in it that could diverge."""
    (tmp_path / "nothing_at_all.py").write_text("from celery import Celery\napp = Celery('nothing_at_all')\n")
    result = aos_engine.run_canvas(group([]), app=Celery("nothing_at_all", set_as_current=False))
    document = json.loads(aos_engine.record(result).read_text())
    target = Target(name="nothing", golden=None, document=document)
    search = {**os.environ, "PYTHONPATH": str(tmp_path)}
    sys.path.insert(0, str(tmp_path))
    try:
        (answer,) = explain([target], app="nothing_at_all", environment=search)
    finally:
        sys.path.remove(str(tmp_path))
    assert (answer["verdict"], answer["error"]) == ("matched", None)
