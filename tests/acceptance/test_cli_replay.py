"""``aos replay`` and ``pytest --goldens`` on a user's folder: goldens of runs that were performed in one process.

With CHANGED set the steps ``moody`` do what their input says: one replay of all goldens shows every way to go wrong.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.golden import Golden
from aos_workflow.replay.crew import Crew
from aos_workflow.replay.targets import Target
from aos_workflow.signing import KeyRing
from aos_workflow.upgrade import upgrade
from tests.aos_command import Done, aos, environment, pytest_command

SECRET = "7e" * 32

MODULE = """
import ctypes, os, signal, sys, time
from celery import Celery, group, shared_task
from aos_workflow import StepContext, Workflow, WorkflowTask, step, workflow

print("this module prints when it is imported")
app = Celery("lab", task_cls=WorkflowTask, broker="memory://")
CHANGED = os.environ.get("CHANGED", "")

@shared_task
def add(x, y=1):
    return x + y

@step(joins=True)
def total(xs):
    return sum(xs)

@step
def draw(ctx: StepContext, x=None):
    print("a step prints", flush=True)
    os.write(1, b"even so\\n")
    sys.stdout.write('{"results": []}\\n')
    return {"x": x, "drawn": ctx.random.random(), "id": ctx.uuid()}

@step
def moody(mood):
    if CHANGED:
        act(mood)
        if mood in ("differs", "volatile"):
            return {"mood": mood, "a": {"of/day": [CHANGED]}}
    return {"mood": mood, "a": {"of/day": [""]}}

def act(mood):
    if mood == "killed":
        signal.raise_signal(signal.SIGKILL)
    if mood == "segfault":
        ctypes.string_at(0)
    if mood == "exit":
        os._exit(3)
    if mood == "suicide":
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == "hangs":
        time.sleep(600)
    if mood == "raises":
        raise LookupError("no [red]luck[/red]")
    if mood == "caught":
        try:
            open("caught.txt", "w")
        except Exception:
            pass

if not CHANGED:
    @step
    def going():
        return 1
    gone = Workflow("gone", going.s())

@step
def fails():
    raise ValueError("as ever")

sums = Workflow("sums", group(add.s(1), add.s(2)) | total.s())
draws = Workflow("draws", add.s(1) | draw.s())
failing = Workflow("failing", fails.s())
moods = [
    Workflow(mood, add.si(1, 1) | moody.si(mood), volatile=["/a"] if mood == "volatile" else [],
             golden="never" if mood == "hangs" else None)
    for mood in ("differs", "volatile", "killed", "segfault", "exit", "suicide", "hangs", "raises", "caught")
]
"""

FILL = """
import json
from aos_workflow import WorkflowEngine
import lab
engine = WorkflowEngine()
ids = {name: engine.run_here(name, n, seed=1).run_id for name, n in [("sums", 2), ("draws", 3), ("gone", None)]}
ids |= {flow.name: engine.run_here(flow, seed=1).run_id for flow in (*lab.moods, lab.failing)}
print(json.dumps(ids))
"""


class Lab:
    """A user's folder with goldens of its runs; ``ids`` by workflow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lab.py").write_text(MODULE, encoding="utf-8")
        self.goldens = folder / "goldens"
        self.variables = {
            "AOS_APP": "lab",
            "AOS_DATABASE_URL": f"sqlite:///{folder / 'lab.db'}",
            "AOS_GOLDEN_DIR": str(self.goldens),
            "GOLDEN_HMAC_SECRET": SECRET,
        }
        upgrade(self.variables["AOS_DATABASE_URL"])
        filled = subprocess.run(
            [sys.executable, "-c", FILL], cwd=folder, env=environment(self.variables), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert filled.returncode == 0, filled.stderr
        self.ids: dict[str, str] = json.loads(filled.stdout.splitlines()[-1])

    def golden(self, workflow: str) -> str:
        (path,) = self.goldens.glob(f"{workflow}-*.json")
        return str(path)

    def replay(self, *words: str, **variables: str) -> Done:
        return aos("replay", *words, folder=self.folder, **{**self.variables, **variables})

    def pytest(self, *words: str, **variables: str) -> Done:
        ran = subprocess.run(
            pytest_command("-p", "no:cacheprovider", "-q", *words),
            cwd=self.folder, env=environment({**self.variables, **variables}), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return Done(status=ran.returncode, out=ran.stdout, err=ran.stderr)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def changed(lab: Lab) -> Done:
    """All goldens, replayed with code that has changed."""
    return lab.replay("goldens", "--json", CHANGED="grim")


def answer(done: Done, workflow: str) -> dict[str, Any]:
    (found,) = [one for one in done.document["results"] if one["workflow"] == workflow]
    return dict(found)


# --- aos replay ---------------------------------------------------------------------------------------------


def test_a_folder_of_goldens_matches(lab: Lab) -> None:
    """Every golden of a folder is replayed, without database and key; one line counts them, and the status is 0."""
    done = lab.replay("goldens", AOS_DATABASE_URL="", GOLDEN_HMAC_SECRET="")
    assert (done.status, done.out) == (0, "11 replayed: 11 matched\n"), done


def test_files_and_runs_together_as_json(lab: Lab) -> None:
    """Files, then runs, as they were named; --json prints one document of the documented shape and nothing else.

    A run may be named by the end of its id, and neither order nor the number of processes changes an answer.
    """
    files = [lab.golden("draws"), lab.golden("sums")]
    done = lab.replay(files[0], lab.ids["sums"][-12:], files[1], "--json", "--shuffle", "3", "--processes", "3")
    assert done.status == 0, done
    assert set(done.document) == {"results"}
    results = done.document["results"]
    assert [(one["golden"], one["run_id"]) for one in results] == [
        (files[0], lab.ids["draws"]), (files[1], lab.ids["sums"]), (None, lab.ids["sums"]),
    ]  # fmt: skip
    for one in results:
        assert {"workflow", "run_id", "golden", "verdict", "divergence"} <= set(one)
        assert (one["verdict"], one["divergence"], one["error"]) == ("matched", None, None)
        assert one["workflow_hash"] == one["recorded_hash"]


def test_every_golden_has_its_verdict(changed: Done) -> None:
    """One bad golden does not keep the others from being replayed; the status is 1."""
    assert changed.status == 1
    assert {one["workflow"]: one["verdict"] for one in changed.document["results"]} == {
        "sums": "matched", "draws": "matched", "caught": "matched", "volatile": "ignored", "differs": "diverged",
        "raises": "diverged", "suicide": "diverged", "killed": "error", "segfault": "error", "exit": "error",
        "gone": "error",
    }  # fmt: skip
    assert len({frozenset(one) for one in changed.document["results"]}) == 1


def test_a_divergence_is_named(changed: Done) -> None:
    """The first step that differs, the field, and both values."""
    assert answer(changed, "differs")["divergence"] == {
        "address": "2.moody", "path": "/a/of~1day/0", "recorded": "", "observed": "grim", "cause": None,
        "location": None, "fix": None,
    }  # fmt: skip


def test_a_step_that_raises(changed: Done) -> None:
    """The error stands where the output was."""
    one = answer(changed, "raises")
    assert one["workflow_hash"] is None
    assert one["divergence"]["observed"] == {"raised": "LookupError", "message": "no [red]luck[/red]"}


@pytest.mark.parametrize(
    ("mood", "status"),
    [
        ("killed", "was killed by signal 9"),
        ("segfault", "was killed by signal 11"),
        ("exit", "ended with status 3"),
    ],
)
def test_a_step_that_ends_its_process(mood: str, status: str, changed: Done) -> None:
    """That golden's verdict is "error", which says how the process ended."""
    lost = answer(changed, mood)
    assert (lost["error"]["code"], lost["divergence"]) == ("REPLAY_PROCESS_LOST", None)
    assert status in lost["error"]["message"]


def test_a_step_that_kills_is_refused(changed: Done) -> None:
    """os.kill reaches outside: the seal refuses it before the signal is sent, and names the line."""
    found = answer(changed, "suicide")["divergence"]
    assert found["cause"] == "external_call"
    assert found["location"].endswith(f"lab.py:{line_of('os.kill(')}")


def line_of(code: str) -> int:
    return next(number for number, line in enumerate(MODULE.splitlines(), 1) if code in line)


def test_a_task_that_is_gone(changed: Done) -> None:
    """Today's code does not have the task: an error that names it, not a divergence."""
    error = answer(changed, "gone")["error"]
    assert error["code"] == "GOLDEN_UNREADABLE"
    assert "lab.going" in error["message"]


def test_what_people_are_told(lab: Lab) -> None:
    """A table of what did not match, a line that counts, what to ask next, and on stderr what was refused."""
    named = [lab.golden(name) for name in ("differs", "raises", "caught", "sums")]
    done = lab.replay(*named, CHANGED="grim")
    assert done.status == 1
    assert "4 replayed: 2 matched, 2 diverged" in done.out
    assert f"aos explain {named[0]}" in done.out
    for word in ("2.moody", "/a/of~1day/0", '"grim"', "no [red]luck[/red]"):
        assert word in done.out, done.out
    assert f"refused to write caught.txt at {lab.folder / 'lab.py'}:{line_of('open(')}" in done.err
    assert not (lab.folder / "caught.txt").exists()


def test_a_step_that_hangs(lab: Lab) -> None:
    """Too slow a process is ended, and the next golden gets a new one."""
    hanging = json.loads(Path(lab.golden("caught")).read_text().replace('"caught"', '"hangs"'))
    documents = [hanging, json.loads(Path(lab.golden("sums")).read_text())]
    targets = [Target(name=str(n), golden=f"{n}.json", document=one) for n, one in enumerate(documents)]
    crew = Crew(
        app="lab", environment=environment({}), processes=1, timeout_s=6, changes={"CHANGED": "1"}, cwd=lab.folder
    )
    began = time.monotonic()
    answers = dict(crew.replay(targets))
    assert time.monotonic() - began < 40
    assert answers[0]["error"]["code"] == "REPLAY_PROCESS_LOST"
    assert "did not answer in time" in answers[0]["error"]["message"]
    assert answers[1]["verdict"] == "matched", answers


def test_an_app_that_hangs_when_it_is_imported(lab: Lab, tmp_path: Path) -> None:
    """A golden larger than a pipe holds does not wait for ever for a process that does not read it."""
    (tmp_path / "stuck.py").write_text("import time\ntime.sleep(600)\n")
    document = {**json.loads(Path(lab.golden("sums")).read_text()), "padding": "x" * 200_000}
    target = Target(name="g", golden="g.json", document=document)
    crew = Crew(app="stuck", environment=environment({}), timeout_s=4, cwd=tmp_path)
    ((_, told),) = crew.replay([target])
    assert "did not answer in time" in told["error"]["message"]


def test_a_golden_that_is_not_to_be_believed(lab: Lab, tmp_path: Path) -> None:
    """Tampered, of a foreign key, of another version, torn: an error of that file; good ones are replayed."""
    good = Path(lab.golden("sums")).read_text()
    foreign = Golden(json.loads(good)).signed(KeyRing.of("another")).text
    bad = {
        "foreign": (foreign, "no key of the ring has signed it"),
        "tampered": (good.replace('"seed": 1', '"seed": 2'), "its content was changed"),
        "torn": (good[:-20], "is no golden"),
        "version": (good.replace("aos.golden/1", "aos.golden/2"), "aos.golden/2"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / f"{name}.json").write_text(content)
    done = lab.replay(str(tmp_path), lab.golden("sums"), "--json")
    assert done.status == 1
    *told, last = done.document["results"]
    assert last["verdict"] == "matched"
    for name, one in zip(sorted(bad), told, strict=True):
        assert (one["golden"], one["verdict"]) == (str(tmp_path / f"{name}.json"), "error")
        assert bad[name][1] in one["error"]["message"]
        assert set(one) == set(last)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["goldens/*.gold"], "no file matches goldens/*.gold"),
        (["empty"], "there is no *.json in empty"),
        (["goldens", "nowhere/golden.json"], "there is no nowhere/golden.json"),
    ],
)
def test_nothing_to_replay_is_no_success(words: list[str], says: str, lab: Lab) -> None:
    """A pattern without match, a folder without goldens, a missing file: one line on stderr and status 1."""
    (lab.folder / "empty").mkdir(exist_ok=True)
    done = lab.replay(*words, "--json")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines() == [line for line in done.err.splitlines() if says in line], done.err


def test_a_run_that_cannot_be_had(lab: Lab) -> None:
    """An unknown run and one that failed are errors of those targets; without a database every run is."""
    done = lab.replay("00000000", lab.ids["failing"], "--json")
    assert done.status == 1
    unknown, failed = done.document["results"]
    assert (unknown["verdict"], unknown["error"]["code"], unknown["run_id"]) == ("error", "RUN_NOT_FOUND", "00000000")
    assert failed["error"]["message"].endswith("failed")
    (one,) = lab.replay("00000000", "--json", AOS_DATABASE_URL="").document["results"]
    assert one["error"]["code"] == "SETTINGS_INVALID"


@pytest.mark.parametrize(
    ("variables", "says"), [({"AOS_APP": ""}, "AOS_APP is not set"), ({"AOS_APP": "nowhere"}, "No module named")]
)
def test_without_the_code_nothing_is_replayed(variables: dict[str, str], says: str, lab: Lab) -> None:
    """No app, or one that cannot be imported: said, with status 1."""
    done = lab.replay(lab.golden("sums"), **variables)
    assert done.status == 1
    assert says in " ".join((done.out + done.err).split())


def test_a_replay_changes_nothing(lab: Lab) -> None:
    """Database and folder are as they were, whatever the steps try."""

    def look() -> Any:
        with sqlite3.connect(lab.folder / "lab.db") as connection:
            dump = list(connection.iterdump())
        connection.close()
        return dump, sorted(str(path) for path in lab.folder.rglob("*") if "__pycache__" not in str(path))

    before = look()
    assert lab.replay(lab.golden("caught"), lab.golden("differs"), lab.ids["sums"], CHANGED="grim").status == 1
    assert look() == before


def test_no_words_is_a_wrong_command_line(lab: Lab) -> None:
    """Status 2, as for every command line that is wrong."""
    assert lab.replay().status == 2


# --- pytest --goldens ------------------------------------------------------------------------------------------


def test_every_golden_is_a_test(lab: Lab) -> None:
    """``pytest --goldens DIR`` is green when every golden matches, beside the user's own tests."""
    own = lab.folder / "test_own.py"
    own.write_text("def test_own(aos_engine):\n    assert aos_engine\n")
    try:
        done = lab.pytest("--goldens", "goldens", "test_own.py")
    finally:
        own.unlink()
    assert done.status == 0, done.out
    assert "12 passed" in done.out


def test_a_red_golden_says_why(lab: Lab, tmp_path: Path) -> None:
    """A diverged golden shows workflow, run, step, field and values, one that cannot be told its error."""
    for name in ("differs", "killed", "gone", "sums"):
        shutil.copy(lab.golden(name), tmp_path)
    (tmp_path / "bad.json").write_text(Path(lab.golden("sums")).read_text().replace('"seed": 1', '"seed": 2'))
    done = lab.pytest("--goldens", str(tmp_path), "-n2", CHANGED="grim")
    assert done.status == 1
    assert "4 failed, 1 passed" in done.out, done.out
    for words in (
        f"differs (run {lab.ids['differs']}) diverged", "2.moody /a/of~1day/0", "recorded  ''", "observed  'grim'",
        "its content was changed", "was killed by signal 9", "lab.going",
    ):  # fmt: skip
        assert words in done.out, done.out
    assert "aos_workflow/testing" not in done.out


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (["--goldens", "nowhere"], {}, "--goldens nowhere: there is no golden (*.json)"),
        (["--goldens", "goldens"], {"AOS_APP": ""}, "--goldens needs --aos-app MODULE or AOS_APP"),
        (["--goldens", "goldens"], {"AOS_POOL_SIZE": "many"}, "AOS_POOL_SIZE='many' is not a number"),
    ],
)
def test_a_wrong_use_is_told_in_a_line(words: list[str], variables: dict[str, str], says: str, lab: Lab) -> None:
    """Status 4, pytest's for a usage error, and no traceback."""
    done = lab.pytest(*words, **variables)
    assert done.status == 4, done.out + done.err
    assert says in done.out + done.err
    assert "Traceback" not in done.out + done.err


def test_the_app_is_named_on_the_command_line(lab: Lab, tmp_path: Path) -> None:
    """``--aos-app`` goes before AOS_APP; no database and no key are needed."""
    shutil.copy(lab.golden("sums"), tmp_path)
    done = lab.pytest(
        "--goldens", str(tmp_path), "--aos-app", "lab", AOS_APP="nowhere", AOS_DATABASE_URL="", GOLDEN_HMAC_SECRET=""
    )
    assert done.status == 0, done.out
