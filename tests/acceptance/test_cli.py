"""The command ``aos`` on a SQLite file, with runs that were performed in the process that started them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.upgrade import upgrade
from tests.aos_command import AOS, ORDER, Done, aos, environment, shop_folder

#: What a process of the user's does before the tests look: one run that succeeded, one that failed, four queued.
FILL = """
import json, sys
from aos_workflow import WorkflowEngine
import shop
engine, order = WorkflowEngine(), json.loads(sys.argv[1])
sold = engine.run_here("orders", order, seed=42)
failed = engine.run_here("stamped", {"path": "/nowhere/stamp"})
queued = [handle.id for handle in shop.orders.enqueue_many([order] * 4)]
print(json.dumps({"sold": sold.run_id, "hash": sold.workflow_hash, "failed": failed.run_id, "queued": queued}))
"""


class Shop:
    """A user's folder with a database of its own; ``ids`` are those of the runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = shop_folder(folder)
        self.variables = {
            "AOS_DATABASE_URL": f"sqlite:///{folder / 'shop.db'}",
            "CELERY_BROKER_URL": "memory://",
            "AOS_APP": "shop",
        }
        upgrade(self.variables["AOS_DATABASE_URL"])
        filled = subprocess.run(
            [sys.executable, "-c", FILL, ORDER],
            cwd=folder,
            env=environment(self.variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert filled.returncode == 0, filled.stderr
        self.ids: dict[str, Any] = json.loads(filled.stdout)

    def aos(self, *words: str) -> Done:
        return aos(*words, folder=self.folder, **self.variables)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """The list of commands is shown without SQLAlchemy, Celery, Alembic and Rich."""
    code = """
import sys
from aos_workflow.cli import main
sys.argv = ["aos", "--help"]
try:
    main()
finally:
    print({"sqlalchemy", "celery", "alembic", "rich"} & set(sys.modules), file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "set()\n")
    for name in ("dev", "worker", "beat", "run", "runs"):
        assert f"\n  {name} " in ran.stdout


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        ("run orders", {"AOS_APP": "shop"}, "AOS_DATABASE_URL is not set"),
        ("runs list", {}, "aos dev"),
        ("worker", {"AOS_APP": "shop"}, "AOS_DATABASE_URL is not set"),
        ("beat", {}, "AOS_APP is not set"),
        ("run orders --here", {}, "--app yourmodule"),
        ("run orders --here --app nowhere", {}, "No module named 'nowhere'"),
        ("run sales --here --app shop", {}, "registered: napping, orders, stamped"),
        ("run orders --here --app shop --json", {}, "missing a required argument: 'customer'"),
        ("runs list --json", {"AOS_DATABASE_URL": "sqlite:///empty.db"}, "run: aos db upgrade"),
        ("runs list", {"AOS_POOL_SIZE": "many"}, "AOS_POOL_SIZE='many' is not a number"),
        ("dev --inline", {}, "AOS_APP is not set"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: str, variables: dict[str, str], says: str, tmp_path: Path) -> None:
    """An error is one line on stderr that names what is missing, with exit status 1 and nothing on stdout."""
    done = aos(*words.split(), folder=shop_folder(tmp_path), **variables)
    assert (done.status, done.out) == (1, ""), done
    assert done.err.startswith("aos: ")
    assert done.err.count("\n") == 1
    assert says in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "orders", "--input", "{"],
        ["run", "orders", "--input", '{"a": NaN}'],
        ["run", "orders", "--input", "@missing.json"],
        ["run", "orders", "--here", "--key", "k"],
        ["run", "orders", "--timeout-s", "1"],
        ["run", "orders", "--seed", "-1"],
        ["runs", "list", "--status", "done"],
        ["nothing"],
    ],
)
def test_a_wrong_command_line_is_status_2(words: list[str], tmp_path: Path) -> None:
    """What is wrong about the command line itself is noticed before anything is done."""
    done = aos(*words, folder=tmp_path)
    assert (done.status, done.out) == (2, ""), done
    assert "Error: " in done.err


def test_run_here_needs_no_services(shop: Shop, tmp_path: Path) -> None:
    """``aos run --here`` performs a run without database and broker; the same seed gives the same hash."""
    folder = shop_folder(tmp_path)
    (folder / "order.json").write_text(ORDER, encoding="utf-8")
    words = ("run", "orders", "--here", "--app", "shop", "--json", "--input", "@order.json", "--seed", "42")
    done = aos(*words, folder=folder)
    assert done.status == 0, done.err
    assert done.document["output"]["cents"] == 599
    assert done.document["workflow_hash"] == shop.ids["hash"]


def test_a_failed_run_is_status_1(shop: Shop) -> None:
    """A run that failed says where and why, on stdout because that is the result, and ends with status 1."""
    done = shop.aos("runs", "wait", shop.ids["failed"])
    document = shop.aos("run", "stamped", "--here", "--input", '{"path": "/nowhere/stamp"}', "--json")
    assert done.status == document.status == 1
    assert "error     2.check: ValueError: there is no [red]stamp[/red]" in done.out.splitlines()
    assert "\x1b" not in done.out
    assert document.document["error"]["address"] == "2.check"


def test_show_tells_the_steps(shop: Shop) -> None:
    """``aos runs show`` lists the steps in plan order with status, attempts, duration and worker."""
    shown = shop.aos("runs", "show", shop.ids["sold"][-12:], "--json").document
    assert [step["address"] for step in shown["steps"]] == ["1.price", "2.price", "3.total", "4.invoice"]
    assert {(step["status"], step["attempts"]) for step in shown["steps"]} == {("committed", 1)}
    assert all(step["duration_s"] >= 0 and step["worker_id"] and step["pid"] for step in shown["steps"])
    assert shown["inputs"] == json.loads(ORDER)
    assert shown["output"]["cents"] == 599
    assert shown["workflow_hash"] == shop.ids["hash"]


def test_show_is_a_table_with_the_error(shop: Shop) -> None:
    """For people it is a table; a failed run's last words are the traceback of the step that failed."""
    lines = shop.aos("runs", "show", shop.ids["failed"]).out.splitlines()
    steps = [line.split()[:3] for line in lines if line[:2] in ("1.", "2.", "3.")]
    assert steps == [["1.price", "committed", "1"], ["2.check", "failed", "1"], ["3.invoice", "not", "run"]]
    assert lines[-2:] == ["ValueError: there is no [red]stamp[/red]", "at all"]


def test_list_filters_and_pages(shop: Shop) -> None:
    """``aos runs list`` shows the newest first, by workflow and status, page by page."""
    queued = sorted(shop.ids["queued"])
    words = ("--workflow", "orders", "--status", "enqueued", "--limit", "1", "--before", queued[2])
    assert [run["id"] for run in shop.aos("runs", "list", *words, "--json").document] == [queued[1]]
    lines = shop.aos("runs", "list", "--status", "succeeded").out.splitlines()
    assert lines[0].split() == ["run", "workflow", "status", "steps", "created", "duration"]
    assert lines[1].split()[:4] == [shop.ids["sold"][-12:], "orders", "succeeded", "4/4"]
    assert len(lines) == 2


def test_the_same_key_is_the_same_run(shop: Shop) -> None:
    """Two starts with one key are one run."""
    first, second = (shop.aos("run", "orders", "--key", "k1", "--input", ORDER, "--json").document for _ in range(2))
    assert first["id"] == second["id"]
    assert first["status"] == "enqueued"


def test_cancel_resume_and_wait(shop: Shop) -> None:
    """A run can be cancelled and resumed by the end of its id; waiting for it has a limit."""
    run_id = shop.ids["queued"][0]
    assert shop.aos("runs", "cancel", run_id[-12:]).out == f"run {run_id} is cancelled\n"
    assert shop.aos("runs", "retry", run_id[-12:], "--json").document == [{"id": run_id, "status": "running"}]
    late = shop.aos("runs", "wait", run_id, "--timeout-s", "0.05")
    assert (late.status, late.out) == (1, "")
    assert f"run {run_id} is still running" in late.err


def test_one_unknown_id_stops_all(shop: Shop) -> None:
    """Of several ids none is acted on when one of them is unknown."""
    run_id = shop.ids["queued"][3]
    done = shop.aos("runs", "cancel", run_id, "0123456789ab")
    assert (done.status, done.out) == (1, "")
    assert "no run has an id like '0123456789ab'" in done.err
    assert shop.aos("runs", "show", run_id, "--json").document["status"] == "enqueued"


@pytest.mark.parametrize(("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals(variables: dict[str, str], is_coloured: bool, shop: Shop) -> None:
    """On a terminal a status has its colour, unless NO_COLOR says otherwise."""
    printed = on_terminal(["runs", "show", shop.ids["sold"]], shop, variables)
    assert "succeeded" in printed
    assert ("\x1b[32m" in printed) is is_coloured


def on_terminal(words: list[str], shop: Shop, variables: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    ran = subprocess.Popen(
        [*AOS, *words],
        cwd=shop.folder,
        env=environment({**shop.variables, "TERM": "xterm", **variables}),
        stdout=theirs,
        stdin=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    printed = "".join(read_all(ours))
    assert ran.wait() == 0
    return printed


def read_all(descriptor: int) -> Iterator[str]:
    try:
        while part := os.read(descriptor, 65536):
            yield part.decode()
    except OSError:  # the other end is closed
        os.close(descriptor)


def test_celery_has_the_command_too(shop: Shop, tmp_path: Path) -> None:
    """``celery -A shop aos ...`` is ``aos --app shop ...``."""
    metadata = tmp_path / "aos_workflow-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: aos_workflow\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text("[celery.commands]\naos = aos_workflow.cli:aos\n")
    variables = environment({**shop.variables, "AOS_APP": ""})
    ran = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", "aos", "run", "orders", "--here", "--json", "--input", ORDER],
        cwd=shop.folder,
        env={**variables, "PYTHONPATH": f"{variables['PYTHONPATH']}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["output"]["cents"] == 599
