"""What the user named to be replayed: files, folders, runs; and what cannot be read carries its error."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state

from aos_workflow import WorkflowTask
from aos_workflow.errors import AosError, BadOption, GoldenInvalid, GoldenUnreadable
from aos_workflow.golden import content_sha256, rendered
from aos_workflow.replay.crew import unreadable
from aos_workflow.replay.loading import Loader
from aos_workflow.replay.targets import golden_files, read_targets
from aos_workflow.signing import KeyRing
from aos_workflow.testing import TEST_SECRET, InlineEngine

app = Celery("unit_targets", task_cls=WorkflowTask, set_as_current=False)


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = _state._tls.current_app
    app.set_current()
    yield
    _state._set_current_app(before)


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    """A folder with two goldens and what else may lie there."""
    folder = tmp_path / "goldens"
    (folder / "sub.json").mkdir(parents=True)
    for name in ("b.json", "a.json", ".tmp-c.json.1", "README"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_stands_for_its_goldens(goldens: Path) -> None:
    """Its ``*.json`` files in the order of their names; folders, other files and leftovers are none."""
    files, others = golden_files([str(goldens)])
    assert [file.name for file in files] == ["a.json", "b.json"]
    assert others == []


def test_files_are_taken_once_in_the_order_they_were_named(goldens: Path) -> None:
    """A file that is named twice, or is in a folder that is named too, is replayed once."""
    named = [str(goldens / "b.json"), str(goldens), str(goldens / "b.json")]
    assert [file.name for file in golden_files(named)[0]] == ["b.json", "a.json"]


def test_what_is_no_path_is_a_run() -> None:
    """A word without slash and suffix is taken for a run's id."""
    assert golden_files(["01a20a7d-c127-7046", "5f3c"]) == ([], ["01a20a7d-c127-7046", "5f3c"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{folder}/*.gold", "no file matches"),
        ("no*thing", "no file matches"),
        ("{folder}/missing.json", "there is no"),
        ("missing.json", "there is no"),
        ("{folder}/empty", "there is no \\*.json in"),
        ("{folder}/missing/", "there is no"),
    ],
)
def test_a_path_that_is_not_there_is_refused(name: str, says: str, tmp_path: Path) -> None:
    """A missing file, a pattern without match and an empty folder end the command: nothing was proved."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadOption, match=says):
        golden_files([name.format(folder=tmp_path)])


def test_what_cannot_be_read_becomes_the_target_s_error() -> None:
    """One bad file does not keep the others from being replayed."""

    def read(path: Path) -> dict[str, Any]:
        if path.name == "bad":
            raise GoldenInvalid("bad", fix="throw it away")
        return {"run_id": path.name}

    def load(run: str) -> dict[str, Any]:
        raise GoldenUnreadable("no run", fix="look")

    targets = read_targets([Path("a"), Path("bad"), Path("c")], ["r"], read=read, load=load)
    assert [(one.name, one.golden, one.document) for one in targets] == [
        ("a", "a", {"run_id": "a"}), ("bad", "bad", None), ("c", "c", {"run_id": "c"}), ("r", None, None),
    ]  # fmt: skip
    assert [type(one.error) for one in targets] == [type(None), GoldenInvalid, type(None), GoldenUnreadable]


def test_the_answer_for_what_cannot_be_read_has_the_usual_shape() -> None:
    """Its parts are those of every answer: verdict "error", no divergence, the error, and the run if it was one."""
    (bad, run) = read_targets([Path("bad")], ["r1"], read=_refuse, load=_refuse)
    answers = [unreadable(bad), unreadable(run)]
    assert [(one["golden"], one["run_id"], one["verdict"]) for one in answers] == [
        ("bad", "", "error"), (None, "r1", "error"),
    ]  # fmt: skip
    for answer in answers:
        assert answer["divergence"] is None
        assert answer["error"]["code"] == "GOLDEN_INVALID"
        assert {"divergences", "undeclared", "workflow", "performed", "served"} <= set(answer)


def _refuse(_: Any) -> dict[str, Any]:
    raise GoldenInvalid("bad", fix="")


# --- files -----------------------------------------------------------------------------------------------


def golden_of(engine: InlineEngine) -> Path:
    return engine.record(engine.run_canvas(add.s(1) | add.s(2), seed=1))


def loader_of(*secrets: str) -> Loader:
    return Loader(KeyRing.of(secrets[0] if secrets else "", secrets[1:]))


def test_a_golden_is_read_under_any_key_of_the_ring(aos_engine: InlineEngine) -> None:
    """Newest or older key, and without any key its content is still checked."""
    path = golden_of(aos_engine)
    for secrets in ((TEST_SECRET,), ("newer", TEST_SECRET), ()):
        assert loader_of(*secrets).golden(path)["workflow"] == "durable"


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {**document, **changes}
    return {**document, "content_sha256": content_sha256(document)}


@pytest.mark.parametrize("secrets", [(TEST_SECRET,), ()])
def test_a_changed_golden_is_not_believed(secrets: tuple[str, ...], aos_engine: InlineEngine) -> None:
    """Whoever changes a value is found out, with and without keys."""
    path = golden_of(aos_engine)
    document = json.loads(path.read_text())
    path.write_text(rendered({**document, "seed": 2}))
    with pytest.raises(GoldenInvalid, match="its content was changed"):
        loader_of(*secrets).golden(path)


@pytest.mark.parametrize("how", ["foreign key", "no signature", "changed with its hash"])
def test_a_golden_that_no_key_has_signed_is_not_believed(how: str, aos_engine: InlineEngine) -> None:
    """Another key, no signature, or a change by somebody who knows how the hash is computed."""
    path = golden_of(aos_engine)
    document = json.loads(path.read_text())
    if how == "no signature":
        del document["signature"]
    elif how == "changed with its hash":
        document = changed(document, seed=2)
    path.write_text(rendered(document))
    with pytest.raises(GoldenInvalid, match="no key of the ring has signed it"):
        loader_of("foreign" if how == "foreign key" else TEST_SECRET).golden(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"schema": "aos.golden/1", "a": NaN}'])
def test_what_is_no_golden_is_told_so(content: bytes, tmp_path: Path) -> None:
    """Empty, torn, other JSON, other bytes: each is an error of that file, never a crash."""
    path = tmp_path / "g.json"
    path.write_bytes(content)
    with pytest.raises(AosError) as refused:
        loader_of(TEST_SECRET).golden(path)
    assert isinstance(refused.value, GoldenInvalid | GoldenUnreadable)


def test_a_golden_of_another_schema_is_unreadable(aos_engine: InlineEngine) -> None:
    """What another version wrote is told apart from what somebody broke."""
    path = golden_of(aos_engine)
    path.write_text(path.read_text().replace("aos.golden/1", "aos.golden/9"))
    with pytest.raises(GoldenUnreadable, match=r"aos\.golden/9"):
        loader_of(TEST_SECRET).golden(path)


def test_a_run_needs_a_database() -> None:
    """Without one, a word that is no file is told to be neither."""
    (target,) = loader_of().targets(["01a20a7d"])
    assert target.error is not None
    assert target.error.code == "SETTINGS_INVALID"
    assert "AOS_DATABASE_URL" in str(target.error)


def test_a_run_is_read_from_the_database(aos_engine: InlineEngine) -> None:
    """What its golden would hold; an id that no run has is that target's error."""
    result = aos_engine.run_canvas(add.s(1), seed=1)
    loader = Loader(KeyRing.of(TEST_SECRET), aos_engine._parts.recorder)
    known, unknown = loader.targets([result.run_id, "00000000"])
    assert known.golden is None
    assert known.document is not None
    assert known.document["workflow_hash"] == result.workflow_hash
    assert unknown.error is not None
    assert unknown.error.code == "RUN_NOT_FOUND"
