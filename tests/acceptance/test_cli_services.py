"""``aos worker`` and ``aos dev`` on real servers, used as the tutorial says."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aos_workflow.embedded import start_valkey
from aos_workflow.upgrade import upgrade
from tests.aos_command import ORDER, AosProcess, aos, command_line, shop_folder
from tests.stack import Servers
from tests.worker_process import wait_until

pytestmark = pytest.mark.worker


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    """What is started is killed at the end of the test."""
    with ExitStack() as stack:
        yield stack


def start(exits: ExitStack, *words: str, folder: Path, **variables: str) -> AosProcess:
    process = AosProcess(*words, folder=folder, log=folder / "aos.log", **variables)
    exits.callback(process.kill)
    return process


def exported(file: Path) -> dict[str, str]:
    """The variables of a file that a shell would source."""
    lines = file.read_text().splitlines()
    return {
        name: value.strip("'") for name, _, value in (line.removeprefix("export ").partition("=") for line in lines)
    }


def test_a_worker_outlives_its_broker(servers: Servers, tmp_path: Path, exits: ExitStack) -> None:
    """What ``aos run`` starts, ``aos worker`` performs, also when Redis is killed while a step is under way."""
    folder = shop_folder(tmp_path)
    valkey = exits.enter_context(start_valkey(servers.folder("cli-valkey")))
    variables = {
        "AOS_DATABASE_URL": servers.database(),
        "AOS_BROKER_URL": valkey.url,
        "AOS_APP": "shop",
        "AOS_HOME": str(tmp_path / "home"),
        "AOS_SWEEP_EVERY_S": "0.5",
    }
    worker = start(exits, "worker", "--concurrency", "2", folder=folder, **variables)
    worker.wait_for("is ready")

    done = aos("run", "orders", "--input", ORDER, "--seed", "7", "--wait", "--json", folder=folder, **variables)
    assert done.status == 0, done.err
    assert done.document["output"]["cents"] == 599
    here = aos("run", "orders", "--input", ORDER, "--seed", "7", "--here", "--json", folder=folder, AOS_APP="shop")
    assert done.document["workflow_hash"] == here.document["workflow_hash"]

    stamp = tmp_path / "stamp"
    words = ("run", "napping", "--input", json.dumps({"path": str(stamp)}), "--json")
    run_id = aos(*words, folder=folder, **variables).document["id"]
    wait_until(Path(f"{stamp}.begun").exists, what="the step has begun")
    valkey.kill()
    worker.wait_for("Connection to broker lost")
    exits.enter_context(start_valkey(valkey.directory, port=valkey.port))
    stamp.touch()
    assert aos("runs", "wait", run_id, "--timeout-s", "50", folder=folder, **variables).status == 0, worker.log
    assert "Unrecoverable" not in worker.log
    assert worker.end(signal.SIGTERM) == 0


def test_dev_starts_everything_and_ends_it(servers: Servers, tmp_path: Path, exits: ExitStack) -> None:
    """``aos dev`` serves runs of another terminal, replaces a killed worker, and leaves nothing after Ctrl-C."""
    folder = shop_folder(tmp_path)
    home = servers.folder("dev")
    dev = start(exits, "dev", "--app", "shop", "-c", "1", folder=folder, AOS_HOME=str(home))
    dev.wait_for("is ready")
    variables = exported(home / "env")
    children = dev.children()
    worker = next(pid for pid, words in children.items() if " worker " in words)

    stamp = tmp_path / "stamp"
    words = ("run", "napping", "--input", json.dumps({"path": str(stamp)}), "--json")
    run_id = aos(*words, folder=folder, **variables).document["id"]
    wait_until(Path(f"{stamp}.begun").exists, what="the step has begun")
    os.kill(worker, signal.SIGKILL)
    stamp.touch()
    assert aos("runs", "wait", run_id, "--timeout-s", "50", folder=folder, **variables).status == 0, dev.log

    children |= dev.children()
    assert dev.end(signal.SIGINT) == 0
    assert [words for pid, words in children.items() if command_line(pid) == words] == []


def test_dev_inline_serves_other_processes(tmp_path: Path, exits: ExitStack) -> None:
    """``aos dev --inline`` performs runs that another process stored, before or by then, and leaves their goldens."""
    folder = shop_folder(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    variables = {
        "AOS_DATABASE_URL": f"sqlite:///{home / 'inline.db'}",
        "AOS_BROKER_URL": "memory://",
        "AOS_APP": "shop",
    }
    upgrade(variables["AOS_DATABASE_URL"])
    words = ("run", "orders", "--input", ORDER, "--json")
    left = aos(*words, folder=folder, **variables).document["id"]

    dev = start(exits, "dev", "--inline", "--app", "shop", folder=folder, AOS_HOME=str(home))
    dev.wait_for("Ctrl-C stops everything")
    variables |= {"AOS_GOLDEN_DIR": str(home / "golden"), "AOS_GOLDEN_KEYS_FILE": str(home / "golden-keys.json")}
    assert exported(home / "env") == variables
    done = aos(*words, "--wait", "--timeout-s", "50", folder=folder, **variables)
    assert done.status == 0, dev.log
    assert done.document["output"]["cents"] == 599
    assert aos("runs", "wait", left, "--timeout-s", "50", folder=folder, **variables).status == 0, dev.log
    wait_until(lambda: len(list((home / "golden").glob("*.json"))) == 2, what="both runs have left a golden")
    assert aos("replay", str(home / "golden"), folder=folder, **variables).status == 0
    assert dev.end(signal.SIGINT) == 0
