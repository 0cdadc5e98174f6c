"""Golden and GoldenRecorder: what is in the file, when it is written, and what is refused."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group, shared_task
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from aos_workflow import StepContext, WorkflowTask, step
from aos_workflow.atomic_files import sweep_leftovers
from aos_workflow.errors import (
    BadOption,
    CheckpointMissing,
    GoldenInvalid,
    GoldenKeyMissing,
    GoldenNotWritten,
    GoldenUnreadable,
    PayloadTooLarge,
    RunNotFinished,
    RunNotFound,
)
from aos_workflow.faults import InjectedFault, install
from aos_workflow.golden import Golden, GoldenRecorder, content_sha256, golden_name, rendered
from aos_workflow.goldens.ledger import GoldenLedger
from aos_workflow.records import RunStatus
from aos_workflow.schema import checkpoints
from aos_workflow.signing import KeyRing
from aos_workflow.testing import InlineEngine
from tests.conformance.store_cases import line
from tests.golden_cases import FOREIGN_SECRET, KEYS, NEW_SECRET, ROTATED, Home, golden, opened_home, recording

app = Celery("golden-tests", task_cls=WorkflowTask, broker="memory://", set_as_current=False)


@shared_task
def parts_of(count: int) -> list[int]:
    return list(range(count))


@step(volatile=("ms",))
def weigh(ctx: StepContext, numbers: list[int]) -> dict[str, Any]:
    return {"sum": sum(numbers) + ctx.random.random(), "ms": time.perf_counter()}


@step(effect=True)
def fetch(ctx: StepContext, source: str) -> dict[str, Any]:
    return {"price": ctx.effect("price", lambda: 3), "source": source}


@step
def widen(ctx: StepContext, value: Any) -> Any:
    return ctx.replace(group(fetch.s("a"), fetch.s("b")))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with opened_home(tmp_path) as home:
        yield home


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    install("")


def temporary_files(home: Home) -> list[Path]:
    return sorted(path for path in home.folder.iterdir() if path.suffix != ".json")


# --- the document ---------------------------------------------------------------------------------------------


def test_a_golden_is_signed_content_in_a_readable_file() -> None:
    """Text, signature, key id and content hash are what the format says; reading gives the same golden back."""
    one = golden()
    document = json.loads(one.text)
    assert one.text == json.dumps(document, indent=2)
    assert list(document)[:4] == ["schema", "key_id", "signature", "content_sha256"]
    assert (document["schema"], document["key_id"]) == ("aos.golden/1", KEYS.newest().id)
    assert KEYS.verify(document) == KEYS.newest()
    assert document["content_sha256"] == content_sha256(document)
    assert Golden.from_text(one.text).document == document


def test_a_golden_gives_its_recording_back() -> None:
    """Nothing of a recording is lost on its way through a file."""
    original = recording()
    one = Golden.of(original, recorded_at=1.0, keys=KEYS, made_by={})
    assert Golden.from_text(one.text).recording == original


def test_a_new_key_changes_only_the_envelope() -> None:
    """Signed anew, a golden keeps its content hash and all but signature and key id."""
    one = golden()
    again = one.signed(ROTATED)
    changed = {name for name in one.document if one.document[name] != again.document[name]}
    assert changed == {"signature", "key_id"}
    assert again.content_sha256 == content_sha256(again.document)


def test_the_text_does_not_depend_on_the_order_of_keys() -> None:
    """Documents that are equal have one text."""
    document = json.loads(golden().text)
    backwards = dict(reversed(list(document.items())))
    assert rendered(backwards) == rendered(document)


SAFE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,160}\.json$")


@given(st.text(max_size=300))
def test_every_workflow_has_a_safe_file_name(workflow: str) -> None:
    """Whatever a workflow is called, its goldens' names stay in the folder and match *.json; the run makes them one."""
    name = golden_name(workflow, "0192-a")
    assert SAFE.match(name)
    assert name != golden_name(workflow, "0192-b")


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a/b", ".", "", "x" * 3, "\0"])
def test_a_hostile_run_id_stays_in_the_folder(run_id: str) -> None:
    """Nor does a run's id lead out of it."""
    assert "/" not in golden_name("w", run_id)
    assert ".." not in golden_name("w", run_id)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"schema": "aos.golden/1", "schema": 1}', "NaN"])
def test_what_is_no_golden_is_not_read(text: str) -> None:
    """Text that is no golden is refused, with a hint how to learn more."""
    with pytest.raises(GoldenInvalid, match="no golden"):
        Golden.from_text(text)


def test_another_version_is_unreadable_not_invalid() -> None:
    """A golden of a later format says so."""
    with pytest.raises(GoldenUnreadable, match=r"aos\.golden/2"):
        Golden.from_text('{"schema": "aos.golden/2"}')


# --- recording ------------------------------------------------------------------------------------------------


def test_a_run_is_recorded(home: Home) -> None:
    """The file has the run's name and rights, the folder is made, the ledger knows, the run is marked."""
    run_id = home.run()
    assert home.bench.store.golden_wanted(10) == [run_id]
    path = home.recorder.record(run_id)
    run = home.bench.store.run(run_id)
    one = Golden.read(path)
    assert path == home.folder / f"w-{run_id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o750
    assert (one.run_id, one.document["workflow_hash"]) == (run_id, run.workflow_hash)
    assert one.recording.hash_of({s.address: s.stable_digest for s in one.recording.steps}) == run.workflow_hash
    assert home.bench.store.golden_wanted(10) == []
    assert [(e.op, e.run_id, e.content_sha256) for e in home.ledger.entries()] == [("add", run_id, one.content_sha256)]
    assert home.verdicts() == {}
    assert temporary_files(home) == []


def test_recording_again_changes_nothing(home: Home) -> None:
    """The file stays byte by byte, and the ledger gets no second entry."""
    run_id = home.run()
    path = home.recorder.record(run_id)
    before = path.read_bytes()
    assert home.recorder.record(run_id) == path
    assert path.read_bytes() == before
    assert home.ops() == ["add"]


def test_a_crash_between_file_and_ledger_is_completed(home: Home, disarmed: None) -> None:
    """The file of the first try stays, also under a newer key, and only the ledger is caught up."""
    run_id = home.run()
    install("golden_placed:raise")
    with pytest.raises(InjectedFault):
        home.recorder.record(run_id)
    install("")
    assert home.ops() == []
    assert [finding.note for finding in home.findings()] == ["its ledger entry is still to come"]
    (before,) = [path.read_bytes() for path in home.folder.iterdir()]
    home.keys = ROTATED
    assert home.recorder.record(run_id).read_bytes() == before
    assert home.ops() == ["add"]
    assert home.verdicts() == {}


def test_recorders_at_once_leave_one_golden(home: Home) -> None:
    """Of many recorders of one run one writes the file, and all agree with the ledger."""
    run_id = home.run()
    recorders = [home.recorder for _ in range(8)]
    threads = [threading.Thread(target=recorder.record, args=(run_id,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(home.names()) == 1
    assert home.ops() == ["add"]
    assert home.verdicts() == {}


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]"])
def test_a_file_in_the_way_is_not_overwritten(home: Home, content: str) -> None:
    """A file of the golden's name that is something else stays, and the error says how to look at it."""
    run_id = home.run()
    path = home.folder / golden_name("w", run_id)
    home.folder.mkdir()
    path.write_text(content)
    with pytest.raises(GoldenNotWritten, match="aos golden verify"):
        home.recorder.record(run_id)
    assert path.read_text() == content
    assert home.ops() == []
    assert temporary_files(home) == []


def test_a_foreign_golden_in_the_way_is_not_overwritten(home: Home) -> None:
    """Nor is one of the same run that another key has signed."""
    run_id = home.run()
    home.folder.mkdir()
    foreign = golden(KeyRing.of(FOREIGN_SECRET), run_id=run_id, workflow="w")
    path = home.folder / foreign.name
    path.write_text(foreign.text)
    with pytest.raises(GoldenNotWritten):
        home.recorder.record(run_id)
    assert path.read_text() == foreign.text


def test_only_runs_that_succeeded_leave_goldens(home: Home) -> None:
    """Unknown, unfinished and failed runs are refused, each in its words."""
    live = home.bench.run(line(1))
    failed = home.bench.run(line(1))
    home.bench.store.cancel(failed)
    for run_id, refusal in ((live, RunNotFinished), (failed, BadOption), ("nobody", RunNotFound)):
        with pytest.raises(refusal):
            home.recorder.record(run_id)
    assert not home.folder.exists()


def test_an_empty_run_leaves_a_golden(home: Home) -> None:
    """A run without steps has a golden like any other."""
    proof = recording(size=0)
    run_id = home.bench.run(line(0), workflow_hash=None, golden=True, inputs={"x": 1})
    run = home.bench.store.run(run_id)
    assert run.status is RunStatus.SUCCEEDED
    home.bench.change_run(run_id, workflow_hash=proof.workflow_hash, workflow="triage")
    assert Golden.read(home.recorder.record(run_id)).recording.steps == ()
    assert home.verdicts() == {}


def test_without_a_key_nothing_is_written(home: Home) -> None:
    """A recorder without a key says which setting is missing, and leaves no file."""
    home.keys = KeyRing.of()
    with pytest.raises(GoldenKeyMissing, match="GOLDEN_HMAC_SECRET"):
        home.recorder.record(home.run())
    assert not home.folder.exists()


@pytest.mark.parametrize("column", ["output", "stable_digest", "digest"])
def test_a_database_that_was_tampered_with_is_not_signed(home: Home, column: str) -> None:
    """What is not what was committed gets no signature."""
    run_id = home.run()
    with home.bench.engine.begin() as connection:
        connection.execute(update(checkpoints).where(checkpoints.c.run_id == run_id).values({column: '"other"'}))
    with pytest.raises(GoldenInvalid, match=r"does not hold what run .* committed"):
        home.recorder.record(run_id)
    assert not home.folder.exists()


def test_a_checkpoint_that_is_gone_is_named(home: Home) -> None:
    """A run whose checkpoints were deleted cannot be recorded any more."""
    run_id = home.run()
    with home.bench.engine.begin() as connection:
        connection.execute(text("DELETE FROM checkpoints WHERE address = '2.t'"))
    with pytest.raises(CheckpointMissing, match=r"2\.t"):
        home.recorder.record(run_id)


def test_a_hopeless_golden_is_not_asked_for_again(home: Home) -> None:
    """What can never be recorded leaves the queue; what may work later stays in it."""
    hopeless, waiting = home.run(), home.run()
    recorder = GoldenRecorder(home.folder, KEYS, home.bench.store, home.ledger, size_limit_bytes=100)
    with pytest.raises(PayloadTooLarge):
        recorder.record(hopeless)
    home.folder.write_text("in the way")
    with pytest.raises(GoldenNotWritten):
        home.recorder.record(waiting)
    assert home.bench.store.golden_wanted(10) == [waiting]
    home.folder.unlink()
    home.recorder.record(hopeless)
    assert home.ops() == ["add"]


def test_a_golden_too_large_is_refused(home: Home) -> None:
    """The limit is named with both sizes, and nothing is written."""
    recorder = GoldenRecorder(home.folder, KEYS, home.bench.store, home.ledger, size_limit_bytes=100)
    with pytest.raises(PayloadTooLarge, match="100 bytes"):
        recorder.record(home.run())
    assert not home.folder.exists()


def test_an_unwritable_folder_is_retryable(home: Home) -> None:
    """What the disk refuses is an error that may pass."""
    home.folder.write_text("in the way")
    with pytest.raises(GoldenNotWritten) as refused:
        home.recorder.record(home.run())
    assert refused.value.retryable


def test_leftovers_of_killed_writers_are_swept(home: Home) -> None:
    """Temporary files go when they have been left alone for an hour, whatever time they carry; others' stay."""
    home.folder.mkdir()
    left, foreign = home.folder / "w-1.json.aa.tmp", home.folder / "notes.tmp"
    for path in (left, foreign):
        path.write_text("{")
        os.utime(path, (time.time() - 3700, time.time() - 3700))  # as re-signing gives it the time of the golden
    home.recorder.record(home.run())
    assert temporary_files(home) == [foreign, left]
    assert sweep_leftovers(home.folder, older_than_s=-1) == 1
    assert temporary_files(home) == [foreign]
    assert home.verdicts() == {}


def test_a_wish_is_marked_once(home: Home) -> None:
    """A golden can be wanted later; one that was recorded is not wanted again."""
    run_id = home.run(golden=False)
    assert home.bench.store.golden_wanted(10) == []
    home.bench.store.want_golden(run_id)
    assert home.bench.store.golden_wanted(10) == [run_id]
    home.recorder.record(run_id)
    home.bench.store.want_golden(run_id)
    assert home.bench.store.golden_wanted(10) == []
    with pytest.raises(RunNotFound):
        home.bench.store.want_golden("nobody")


def test_runs_of_an_engine_are_recorded_with_facts(aos_engine: InlineEngine, tmp_path: Path) -> None:
    """Effects, sub-plans, volatile fields and the code's facts are in the golden of a real run."""
    app.set_current()
    result = aos_engine.run_canvas(parts_of.s(3) | weigh.s() | widen.s(), seed=5)
    assert result.status is RunStatus.SUCCEEDED, result.error
    facts = {"file": "t.py", "line": 3, "source": ["00000000"], "effect": True, "volatile": ["ms"]}
    recorder = GoldenRecorder(
        tmp_path / "own", KEYS, aos_engine.store, GoldenLedger(aos_engine.store), facts_of=lambda _task: facts
    )
    one = Golden.read(recorder.record(result.run_id))
    steps = {item.address: item for item in one.recording.steps}
    assert [address for address, _ in one.recording.splices] == ["3.widen"]
    assert list(steps) == ["1.parts_of", "2.weigh", "3.widen", "3.widen/1.fetch", "3.widen/2.fetch"]
    assert steps["2.weigh"].volatile == ("ms",)
    assert steps["2.weigh"].digest != steps["2.weigh"].stable_digest
    assert json.loads(steps["3.widen/1.fetch"].effects or "")["effects"] == {"price": 3}
    assert all(item.effect for item in steps.values())
    assert one.document["code"][steps["2.weigh"].task] == {"file": "t.py", "line": 3, "source": ["00000000"]}
    assert KeyRing.of(NEW_SECRET).verify(one.document) is None


def test_wanted_goldens_are_asked_for_page_by_page(home: Home) -> None:
    """Who asks behind the last one it was told gets the next ones; what ended too long ago is left out."""
    first, second, third = sorted(home.run() for _ in range(3))
    store = home.bench.store
    assert store.golden_wanted(2) == [first, second]
    assert store.golden_wanted(2, after=second) == [third]
    assert store.golden_wanted(3, within_s=60) == [first, second, third]
    assert store.golden_wanted(3, within_s=-60) == []
    home.recorder.record(first)
    assert [store.wants_golden(run_id) for run_id in (first, second, "nobody")] == [False, True, False]
