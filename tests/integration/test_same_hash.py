"""The same seed and inputs give the same workflow hash, wherever and in whatever order the steps are performed."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aos_workflow
from aos_workflow import durable, inline
from aos_workflow.determinism.order import shuffled
from aos_workflow.records import RunStatus
from tests.integration import golden_app
from tests.stack import AppEngine, Servers, Stack, inline_engine

APP = "tests.integration.golden_app"
INPUTS, SEED = {"n": 3}, 4711
#: The hash that every place must come to. A change of it means that no golden recorded before will match:
#: it needs a new version of the hash, and a line in the changelog.
EXPECTED = "c99759105981d76b1f5dffadc241757f0a12a55189ac81498b91f9229a1255a7"

ELSEWHERE = f"""
import sys
from aos_workflow import WorkflowEngine
from {APP} import same
result = WorkflowEngine().run_here(same, {INPUTS!r}, seed={SEED})
print(sys.version_info[:2], result.status.value, result.workflow_hash)
"""


@pytest.fixture(scope="module")
def here() -> AppEngine:
    return inline_engine(APP)


@pytest.fixture(scope="module")
def fleet(servers: Servers) -> Iterator[Stack]:
    stack = Stack(servers)
    yield stack
    stack.close()


def mixed(engine: AppEngine, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """From now on the engine performs whatever may run in another order than it is listed."""
    chance = random.Random(seed)
    other = lambda ready: shuffled(tuple(ready), chance.randrange(2**32))  # noqa: E731
    monkeypatch.setattr(inline, "reversed", other, raising=False)


def hash_elsewhere(python: str, **variables: str) -> str:
    """The hash that a fresh process of this interpreter comes to; skips when it cannot import what is needed."""
    packages = [str(Path(module.__file__).parents[1]) for module in (aos_workflow, pytest)]  # type: ignore[arg-type]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AOS_", "CELERY_", "PYTHON"))}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    ran = subprocess.run(
        [python, "-c", ELSEWHERE], env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=100
    )
    if ran.returncode and ("ImportError" in ran.stderr or "ModuleNotFoundError" in ran.stderr):
        pytest.skip(f"{python} cannot use this interpreter's packages: {ran.stderr.splitlines()[-1]}")
    assert ran.returncode == 0, ran.stderr
    assert "succeeded" in ran.stdout
    return ran.stdout.split()[-1]


# --- in process ------------------------------------------------------------------------------------------------


def test_in_this_process(here: AppEngine) -> None:
    """The hash is what it was when this test was written, and again the same."""
    first, second = (here.run_here(golden_app.same, INPUTS, seed=SEED) for _ in range(2))
    assert first.status is RunStatus.SUCCEEDED
    assert first.workflow_hash == second.workflow_hash == EXPECTED


def test_another_seed_or_input_is_another_hash(here: AppEngine) -> None:
    """It does tell runs apart."""
    others = {
        here.run_here(golden_app.same, INPUTS, seed=SEED + 1).workflow_hash,
        here.run_here(golden_app.same, {"n": 2}, seed=SEED).workflow_hash,
        here.run_here("never", seed=SEED).workflow_hash,
    }
    assert len(others - {EXPECTED}) == 3


@pytest.mark.parametrize("order", range(4))
def test_siblings_in_another_order(order: int, here: AppEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever sibling goes first, each draws what it would have drawn."""
    mixed(here, monkeypatch, order)
    assert here.run_here(golden_app.same, INPUTS, seed=SEED).workflow_hash == EXPECTED


# --- other processes ---------------------------------------------------------------------------------------------


def test_another_hash_seed_zone_and_locale() -> None:
    """PYTHONHASHSEED, TZ and locale are none of a run's inputs."""
    assert hash_elsewhere(sys.executable, PYTHONHASHSEED="12345", TZ="Pacific/Chatham", LC_ALL="C") == EXPECTED


def other_pythons() -> list[str]:
    """Interpreters of this machine that the package supports, one per version, without this one's."""
    found: dict[str, str] = {}
    for minor in range(11, 20):
        if minor == sys.version_info.minor:
            continue
        installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
        in_pyenv = [str(path) for path in sorted(installed.glob(f"3.{minor}.*/bin/python"))]
        on_path = shutil.which(f"python3.{minor}")
        for python in [*in_pyenv, *([on_path] if on_path else [])]:
            found.setdefault(f"3.{minor}", python)
    return [*found.values()] or [""]


@pytest.mark.parametrize("python", other_pythons())
def test_another_version_of_python(python: str) -> None:
    """Every version of Python on this machine comes to the same hash."""
    if not python:
        pytest.skip("no other supported Python is installed here")
    assert hash_elsewhere(python) == EXPECTED


# --- workers -----------------------------------------------------------------------------------------------------


@pytest.mark.worker
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_through_workers(pool: str, fleet: Stack) -> None:
    """On PostgreSQL, through a broker, under every pool, with siblings in parallel: the same hash."""
    engine = fleet.engine(APP)
    worker = fleet.worker(APP, pool=pool, concurrency=1 if pool == "solo" else 3)
    try:
        results = [handle.wait(timeout_s=90) for handle in engine.enqueue_many("same", [INPUTS] * 3, seeds=[SEED] * 3)]
    finally:
        worker.kill()
    assert [result.status for result in results] == [RunStatus.SUCCEEDED] * 3
    assert {result.workflow_hash for result in results} == {EXPECTED}


# --- any plan ------------------------------------------------------------------------------------------------------

LEAVES = st.sampled_from(["draw", "loop", "fan"])
SHAPES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(["chain", "group", "chord"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


def canvas(shape: Any) -> Any:
    """A canvas of deterministic steps: chance, typed values, and sub-plans made while it runs."""
    if shape == "draw":
        return golden_app.draw.s()
    if shape == "loop":
        return golden_app.loop.s(2)
    if shape == "fan":
        return golden_app.draw.s() | group(golden_app.draw.s(), golden_app.typed.s())
    kind, members = shape
    if kind == "chain":
        return functools.reduce(lambda left, right: left | right, map(canvas, members))
    parts = group(canvas(member) for member in members)
    return parts if kind == "group" else chord(parts, golden_app.draw.s())


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(shape=SHAPES, seed=st.integers(0, 2**63 - 1), orders=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_any_plan_in_any_order(here: AppEngine, shape: Any, seed: int, orders: tuple[int, int]) -> None:
    """Random plans of deterministic steps come to one hash under two orders of their siblings."""
    here.enter()
    flow = durable(golden_app.add.s(1) | canvas(shape), app=golden_app.app)
    results = []
    for order in orders:
        with pytest.MonkeyPatch.context() as patched:
            mixed(here, patched, order)
            results.append(here.run_here(flow, 2, seed=seed))
    assert [result.status for result in results] == [RunStatus.SUCCEEDED] * 2
    assert results[0].workflow_hash == results[1].workflow_hash
    assert results[0].output == results[1].output
