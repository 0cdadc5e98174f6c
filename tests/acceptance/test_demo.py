"""``aos demo`` as a user starts it: what it claims holds, it uses nothing that is configured, it leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.worker_process import wait_until

pytestmark = [pytest.mark.worker, pytest.mark.chaos, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--rows", "20000", "--parts", "6")
STEPS = 4 * 6 + 3

#: Settings of somebody who has something else configured; nothing listens there.
ELSEWHERE = {
    "AOS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/elsewhere",
    "AOS_BROKER_URL": "redis://127.0.0.1:1/0",
    "AOS_APP": "elsewhere",
    "AOS_WINDOW": "not a number",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """The demo's system temp directory; a root process's servers must be able to get into it."""
    folder = Path(tempfile.mkdtemp(prefix="aos-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(
    folder: Path, *options: str, checkout: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """``aos demo --json`` in a session of its own, started far from the checkout."""
    with (folder / "told").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "aos_workflow.cli", "demo", "--json", *SMALL, *options],
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(folder), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


def told(folder: Path) -> str:
    return (folder / "told").read_text()


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "told")


def processes_of(folder: Path) -> list[int]:
    """Every process whose command line or environment names the folder (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(int(process.name))
    return found


def test_the_demo_holds_what_it_claims(folder: Path) -> None:
    """A worker is killed in mid-run, nothing committed runs again, and the hash is that of an undisturbed run."""
    demo = start(folder, "--keep", env=ELSEWHERE)
    stdout, _ = demo.communicate()
    assert demo.returncode == 0, told(folder)
    document = json.loads(stdout)  # one document and nothing else

    assert {claim["name"] for claim in document["claims"] if claim["holds"]} >= {
        "committed_ran_once",
        "checkpoints_kept",
        "only_in_flight_ran_again",
        "everything_committed",
        "same_hash",
        "same_output",
        "replays_match",
    }
    assert document["holds"]
    kill, runs = document["kill"], document["runs"]
    assert kill["steps"] == STEPS
    assert 0.4 * STEPS <= len(kill["committed"]) < STEPS
    assert set(kill["repeated"]) == set(kill["in_flight"]) - set(kill["landed"])
    assert not set(kill["committed"]) & set(kill["repeated"])
    assert kill["resumed_after_s"] > 0
    assert runs["interrupted"]["hash"] == runs["undisturbed"]["hash"]
    assert "other_seed" not in runs or runs["other_seed"]["hash"] != runs["undisturbed"]["hash"]
    assert runs["interrupted"]["output"]["rows"] == 20_000

    kept = Path(document["directory"])
    assert left_behind(folder) == [kept.name]
    assert (kept / "report.md").read_text().startswith("# A year of bicycle hires")
    assert processes_of(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("signum", "status", "stays"),
    [
        (signal.SIGINT, 130, 0),
        (signal.SIGKILL, -signal.SIGKILL, 1),
        pytest.param(signal.SIGTERM, 143, 0, marks=pytest.mark.slow),
    ],
)
def test_the_end_of_the_demo_is_the_end_of_everything(
    folder: Path, signum: signal.Signals, status: int, stays: int
) -> None:
    """Ended in the middle, it takes all its processes along, and unless it was SIGKILL its directory too."""
    demo = start(folder)
    wait_until(lambda: "steps committed: 7 of" in told(folder) or demo.poll() is not None, what="steps are committed")
    assert len(processes_of(folder)) > 4, told(folder)
    demo.send_signal(signum)
    assert demo.communicate()[0] == ""
    assert demo.returncode == status
    wait_until(lambda: not processes_of(folder), what="its processes have ended")
    assert len(left_behind(folder)) == stays


def test_a_worker_that_cannot_start_is_explained(folder: Path) -> None:
    """The demo ends with one line that says what did not happen, after the end of that worker's log."""
    for package in ("aos_workflow", "examples"):
        shutil.copytree(ROOT / package, folder / "checkout" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "checkout" / "examples" / "trips" / "app.py").open("a") as app:
        app.write("\nimport sys\nif 'worker' in sys.argv:\n    raise RuntimeError('no luck today')\n")
    demo = start(folder, checkout=folder / "checkout")
    assert demo.communicate()[0] == ""
    *tail, last = told(folder).splitlines()
    assert demo.returncode == 1
    assert any("no luck today" in line for line in tail)
    assert last.startswith("aos: the worker should be at work and is not; worker 1 (pid ")
    assert left_behind(folder) == ["checkout"]


def test_without_a_checkout_it_says_so(folder: Path) -> None:
    """Installed from a wheel, with no examples in sight, it ends with one line that says what to do."""
    shutil.copytree(ROOT / "aos_workflow", folder / "site" / "aos_workflow")
    demo = start(folder, checkout=folder / "site")
    assert demo.communicate()[0] == ""
    assert demo.returncode == 1
    assert told(folder).splitlines() == [
        "aos: the demo performs examples/trips, which is in the source and not in the wheel; "
        "run it in the folder of a checkout (git clone), or there: make demo"
    ]
