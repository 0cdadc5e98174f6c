"""Goldens of runs that real workers perform: written after the run, once, whatever fails on the way; and verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult
from sqlalchemy import text

from aos_workflow.canonical import digest, encode
from aos_workflow.errors import BadOption
from aos_workflow.goldens.verify import Verifier
from aos_workflow.recording import Recording
from aos_workflow.records import RunStatus
from aos_workflow.signing import KeyRing
from aos_workflow.terms import Terms
from tests.integration import golden_app
from tests.stack import AppEngine, Servers, Stack, WorkerProcess, wait_until

pytestmark = pytest.mark.worker

APP = "tests.integration.golden_app"
SECRET = "5e" * 32
KEYS = KeyRing.of(SECRET)


class Goldens:
    """A stack whose runs leave goldens, and the folder where they are."""

    def __init__(self, servers: Servers) -> None:
        self.folder = servers.folder("golden") / "goldens"
        self.stack = Stack(servers)
        self.engine: AppEngine = self.stack.engine(APP, golden_secret=SECRET, golden_dir=self.folder)
        self.env = {
            "GOLDEN_HMAC_SECRET": SECRET,
            "AOS_GOLDEN_DIR": str(self.folder),
            "CELERY_RESULT_BACKEND": self.stack.redis_url,
            "AOS_TESTING": "1",
        }

    def worker(self, **env: str) -> WorkerProcess:
        """A worker that takes steps and goldens alike."""
        return self.stack.worker(APP, env={**self.env, **env}, options=("-Q", "celery,steps"))

    def of(self, run_id: str) -> list[Path]:
        return sorted(self.folder.glob(f"*{run_id}*.json")) if self.folder.exists() else []

    def wait_for(self, run_id: str) -> Path:
        """The run's golden, verified, once the ledger knows it."""
        wait_until(lambda: self.is_entered(run_id), what=f"the golden of {run_id} is written")
        (path,) = self.of(run_id)
        assert KEYS.verify(json.loads(path.read_text())) is not None
        return path

    def is_entered(self, run_id: str) -> bool:
        return bool(self.ask("SELECT golden FROM runs WHERE id = :id", id=run_id) == "recorded")

    def ask(self, statement: str, **values: Any) -> Any:
        with self.engine.store.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.scalar() if result.returns_rows else None

    def verify(self, target: Any, **perturbed: Any) -> Any:
        """What the golden-verification task answers a client."""
        self.engine.enter()
        sent = golden_app.app.send_task("aos.golden.verify", (str(target),), perturbed)
        backend = RedisBackend(app=golden_app.app, url=self.stack.redis_url)
        return AsyncResult(sent.id, app=golden_app.app, backend=backend).get(timeout=60)


@pytest.fixture(scope="module")
def goldens(servers: Servers) -> Iterator[Goldens]:
    goldens = Goldens(servers)
    yield goldens
    goldens.stack.close()


@pytest.fixture(scope="module")
def worker(goldens: Goldens) -> WorkerProcess:
    return goldens.worker()


@pytest.fixture
def alone(servers: Servers) -> Iterator[Goldens]:
    """A stack for one test that does things to it."""
    goldens = Goldens(servers)
    yield goldens
    goldens.stack.close()


def finished(goldens: Goldens, flow: Any, inputs: Any = None, **options: Any) -> Any:
    result = goldens.engine.enqueue(flow, inputs, **options).wait(timeout_s=60)
    assert result.status is RunStatus.SUCCEEDED, result.error
    return result


# --- written ------------------------------------------------------------------------------------------------


def test_a_run_leaves_one_golden_after_it(goldens: Goldens, worker: WorkerProcess) -> None:
    """A task of its own writes it after the run: one file, signed, with the run's hash, that verifies."""
    result = finished(goldens, golden_app.same, {"n": 2}, seed=5)
    path = goldens.wait_for(result.run_id)
    document = json.loads(path.read_text())
    assert (document["run_id"], document["seed"]) == (result.run_id, 5)
    assert document["workflow_hash"] == result.workflow_hash
    assert Verifier(KEYS).file(path).verdict.value == "VALID"
    wait_until(lambda: "Task aos.golden.record" in worker.log, what="its task is in the log")


def test_asked_again_it_stays_as_it_is(goldens: Goldens, worker: WorkerProcess) -> None:
    """A second message for the same run changes neither file nor ledger."""
    path = goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    run_id = json.loads(path.read_text())["run_id"]
    for _ in range(3):
        goldens.engine.parts.dispatch(golden_app.app).send("aos.golden.record", run_id)
    goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert goldens.ask("SELECT count(*) FROM golden_ledger WHERE run_id = :id", id=run_id) == 1


def test_a_workflow_that_leaves_none(goldens: Goldens, worker: WorkerProcess) -> None:
    """``golden="never"``: no file and no message; on demand it is written all the same."""
    silent = finished(goldens, golden_app.never)
    goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    assert goldens.of(silent.run_id) == []
    goldens.engine.store.want_golden(silent.run_id)
    wait_until(lambda: goldens.engine.publish_goldens() >= 1, what="no message waits, so it is asked for")
    goldens.wait_for(silent.run_id)


def test_a_share_of_runs(goldens: Goldens, worker: WorkerProcess) -> None:
    """Of a workflow that leaves a golden of every second run, just those that chance drew by their ids."""
    handles = goldens.engine.enqueue_many(golden_app.half, [None] * 16)
    for handle in handles:
        assert handle.wait(timeout_s=60).status is RunStatus.SUCCEEDED
    drawn = {handle.id for handle in handles if Terms(golden=0.5).leaves_golden(handle.id, 1.0)}
    for run_id in drawn:
        goldens.wait_for(run_id)
    goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    assert {handle.id for handle in handles if goldens.of(handle.id)} == drawn


# --- whatever fails -------------------------------------------------------------------------------------------


def test_a_lost_message_is_made_good(alone: Goldens) -> None:
    """The broker loses the message after the run: the fleet looks for goldens that are wanted, and writes it."""
    only_steps = alone.stack.worker(APP, env=alone.env, options=("-Q", "steps"))
    result = finished(alone, golden_app.elsewhere)
    with redis.Redis.from_url(alone.stack.redis_url) as broker:
        wait_until(lambda: broker.llen("celery") > 0, what="the message is in the queue")
        only_steps.kill()
        broker.flushdb()
    assert alone.of(result.run_id) == []
    alone.ask("DELETE FROM ticks WHERE name = 'goldens'")
    alone.worker()
    alone.wait_for(result.run_id)


@pytest.mark.parametrize("point", ["golden_half", "golden_placed"])
def test_a_worker_that_dies_writing_it(point: str, alone: Goldens, tmp_path: Path) -> None:
    """SIGKILL in the middle of the file or before the ledger knows: no partial file, and it is completed later."""
    doomed = alone.worker(AOS_FAULTS=f"{point}:kill9group,once={tmp_path / 'fired'}")
    result = finished(alone, golden_app.simple)
    doomed.wait_until_ended()
    assert (tmp_path / "fired").exists()
    placed = alone.of(result.run_id)
    assert len(placed) == (1 if point == "golden_placed" else 0)
    before = [path.read_bytes() for path in placed]
    assert not alone.is_entered(result.run_id)
    alone.ask("DELETE FROM ticks WHERE name = 'goldens'")
    alone.worker()
    path = alone.wait_for(result.run_id)
    assert before in ([], [path.read_bytes()])
    assert alone.ask("SELECT count(*) FROM golden_ledger WHERE run_id = :id", id=result.run_id) == 1


def test_without_a_key_there_are_no_goldens(alone: Goldens) -> None:
    """A worker and an enqueuer without a key: runs are fine, and the worker says so once, when it starts."""
    engine = Stack(alone.stack._servers, database_url=alone.stack.database_url, redis_url=alone.stack.redis_url)
    keyless = engine.engine(APP, golden_dir=alone.folder)
    worker = engine.worker(APP, env={"AOS_GOLDEN_DIR": str(alone.folder)})
    result = keyless.enqueue(golden_app.simple).wait(timeout_s=60)
    assert result.status is RunStatus.SUCCEEDED
    assert not alone.folder.exists()
    told = "GOLDEN_HMAC_SECRET is not set: finished runs leave no golden"
    wait_until(lambda: worker.log.count(told) == 1, what="the worker says so")
    assert "aos.golden.record[" not in worker.log
    engine.close()


def test_a_folder_that_cannot_be_written(alone: Goldens) -> None:
    """The run is fine, the worker warns, and once the folder can be written the golden is."""
    alone.folder.write_text("a file where the folder should be")
    worker = alone.worker()
    result = finished(alone, golden_app.simple)
    wait_until(lambda: f"no golden of run {result.run_id}" in worker.log, what="the worker warns")
    (line,) = [line for line in worker.log.splitlines() if f"no golden of run {result.run_id}" in line][:1]
    assert "WARNING" in line
    assert str(alone.folder) in line
    alone.folder.unlink()
    alone.ask("DELETE FROM ticks WHERE name = 'goldens'")
    alone.wait_for(result.run_id)


# --- verified ---------------------------------------------------------------------------------------------------


def test_a_good_golden_is_matched(goldens: Goldens, worker: WorkerProcess) -> None:
    """The golden-verification task replays it in a fresh process and answers its caller with the same hash."""
    result = finished(goldens, golden_app.same, {"n": 2}, seed=6)
    path = goldens.wait_for(result.run_id)
    for perturbed in ({}, {"hash_seed": "77", "tz": "Asia/Kolkata", "cwd": "/", "shuffle": 3}):
        answer = goldens.verify(path, **perturbed)
        assert (answer["verdict"], answer["divergence"]) == ("matched", None), answer
        assert answer["workflow_hash"] == answer["recorded_hash"] == result.workflow_hash
    by_id = goldens.verify(result.run_id)
    assert (by_id["verdict"], by_id["golden"]) == ("matched", None)
    assert f"golden {path} of run {result.run_id}: matched" in worker.log


def test_a_step_that_is_not_deterministic_is_diverged(goldens: Goldens, worker: WorkerProcess) -> None:
    """With another hash seed its output is another: the step is named, with both values."""
    path = goldens.wait_for(finished(goldens, golden_app.seeding).run_id)
    answers = [goldens.verify(path, hash_seed="1") for _ in range(2)]
    found = answers[0]["divergence"]
    assert answers[0]["verdict"] == "diverged"
    assert (found["address"], found["path"]) == ("2.seeds", "")
    assert found["recorded"] != found["observed"]
    assert found["observed"] == answers[1]["divergence"]["observed"]


def test_a_changed_golden_is_an_error(goldens: Goldens, worker: WorkerProcess) -> None:
    """A golden that was tampered with is not replayed, and the answer says why."""
    path = goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    copy = path.with_name("copy.json")
    copy.write_text(path.read_text().replace('"seed": ', '"seed": 1'))
    try:
        answer = goldens.verify(copy)
    finally:
        copy.unlink()
    assert (answer["verdict"], answer["divergence"]) == ("error", None)
    assert answer["error"]["code"] == "GOLDEN_INVALID"


def test_what_is_no_one_golden_is_refused(goldens: Goldens, worker: WorkerProcess) -> None:
    """A path that is not there and a folder of several goldens are errors of the caller, with the words of both."""
    for _ in range(2):
        goldens.wait_for(finished(goldens, golden_app.simple).run_id)
    with pytest.raises(BadOption, match="there is no /nowhere"):
        goldens.verify("/nowhere/golden.json")
    with pytest.raises(BadOption, match="goldens"):
        goldens.verify(goldens.folder)


def test_the_process_that_replays_is_told_no_secret(goldens: Goldens, worker: WorkerProcess) -> None:
    """Store, broker and keys are not in its environment: the step sees them live, and not in the replay."""
    path = goldens.wait_for(finished(goldens, golden_app.showing).run_id)
    recorded = json.loads(path.read_text())["steps"][0]["output"]
    assert all(recorded.values())
    answer = goldens.verify(path)
    found = answer["divergence"]
    assert (found["recorded"], found["observed"]) == (True, False)
    assert answer["workflow_hash"] == expected_hash(path, dict.fromkeys(recorded, False))


def expected_hash(path: Path, output: dict[str, bool]) -> str:
    """The workflow hash of the one-step run in this golden, had its step given this output."""
    recording = Recording.from_json(json.loads(path.read_text()))
    return recording.hash_of({recording.steps[0].address: digest(encode(output))})
