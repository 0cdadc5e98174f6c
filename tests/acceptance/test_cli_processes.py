"""What ``aos worker`` and ``aos beat`` become, and how a child of ``aos dev`` is kept alive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

from aos_workflow import WorkflowTask
from aos_workflow.cli.dev.place import Ports
from aos_workflow.cli.dev.supervisor import Child, pause_s
from aos_workflow.cli.processes import beat_command, process_environment, worker_command
from aos_workflow.membership import is_running
from aos_workflow.settings import Settings
from tests.aos_command import environment
from tests.worker_process import PATIENCE_S, ROOT, wait_until
from workers.config import RECOMMENDED, configure

SETTINGS = Settings(database_url="sqlite:///x.db", app="shop", broker_url="redis://127.0.0.1:1/0")


def test_options_come_after_ours() -> None:
    """Of an option given twice Celery takes the last, so what the user says wins."""
    command = worker_command(SETTINGS, ["--loglevel", "DEBUG"])
    assert command[1:6] == ["-m", "celery", "-A", "workers.app", "worker"]
    assert command[-2:] == ["--loglevel", "DEBUG"]
    assert command.index("WARNING") < command.index("DEBUG")


def test_a_beat_shares_its_schedule() -> None:
    """From the checkout a beat uses the scheduler that any number of beats can share."""
    assert "beat.scheduler:LeaseScheduler" in beat_command(SETTINGS)


def test_another_package_named_workers_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user's own ``workers`` would be imported, Celery serves AOS_APP itself."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    (tmp_path / "workers" / "app.py").write_text("app = None\n")
    monkeypatch.chdir(tmp_path)
    assert worker_command(SETTINGS)[3:5] == ["-A", "shop"]
    environment = process_environment(replace(SETTINGS, home=tmp_path / "home"))
    assert environment["CELERY_BROKER_URL"] == SETTINGS.broker_url


def test_the_environment_is_complete_before_celery_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libraries read at import is set: where metrics go, unbuffered output; what was set stays."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/first")
    environment = process_environment(Settings(app="shop", database_url="sqlite:///x.db", home=tmp_path / "home"))
    assert Path(environment["PROMETHEUS_MULTIPROC_DIR"]) == tmp_path / "home" / "metrics"
    assert Path(environment["PROMETHEUS_MULTIPROC_DIR"]).is_dir()
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["PYTHONPATH"] == os.pathsep.join(["/first", str(ROOT)])
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/elsewhere")
    assert process_environment(SETTINGS)["PROMETHEUS_MULTIPROC_DIR"] == "/elsewhere"  # and makes no folder


def test_recommended_settings_give_way() -> None:
    """A setting that the app has made, by any of Celery's ways, is never changed."""
    app = Celery("mine", task_cls=WorkflowTask, set_as_current=False, task_acks_late=False)
    app.config_from_object({"worker_prefetch_multiplier": 7, "broker_transport_options": {"socket_timeout": 60}})
    configure(app, SETTINGS)
    assert app.conf.task_acks_late is False
    assert app.conf.worker_prefetch_multiplier == 7
    assert app.conf.broker_transport_options["socket_timeout"] == 60
    assert app.conf.broker_transport_options["socket_keepalive"] is True
    assert app.conf.task_reject_on_worker_lost is RECOMMENDED["task_reject_on_worker_lost"]
    assert app.conf.broker_url == SETTINGS.broker_url


@pytest.mark.parametrize(("backend", "is_ignored"), [(None, True), ("cache+memory://", False)])
def test_results_of_plain_tasks_are_kept_where_somebody_keeps_results(backend: str | None, is_ignored: bool) -> None:
    """Results are left out only in an app that has no result backend."""
    app = Celery("mine", task_cls=WorkflowTask, set_as_current=False, broker="memory://", backend=backend)
    assert configure(app, Settings(app="mine")).conf.task_ignore_result is is_ignored


def test_pauses_grow() -> None:
    """A child that keeps dying is started again after 0.5, 1, 2, 4 ... 30 seconds."""
    assert [pause_s(failures) for failures in (1, 2, 3, 4, 7, 100)] == [0.5, 1.0, 2.0, 4.0, 30.0, 30.0]


def test_a_child_that_dies_is_started_again() -> None:
    """A killed child has a successor; stopped, it has none, and what it printed was passed on line by line."""
    lines: list[str] = []
    command = [sys.executable, "-u", "-c", "import os, signal; print('pid', os.getpid()); signal.pause()"]
    child = Child("echo", command, dict(os.environ), lambda name, text: lines.append(f"{name} {text}"))
    wait_until(lambda: len(lines) == 1, what="the child has printed its pid")
    os.kill(int(lines[0].split()[-1]), signal.SIGKILL)
    wait_until(lambda: len(lines) == 3, what="its successor has printed its pid")
    assert lines[1] == "echo ended with status -9, starts again in 0.5 s"
    child.stop(hurry=threading.Event())
    assert not child.is_alive
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[2].split()[-1]), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent")
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """When the process that keeps a child is killed, the kernel kills the child."""
    code = """
import os, signal, sys
from aos_workflow.cli.dev.supervisor import Child
pid = "import os, signal; print(os.getpid()); signal.pause()"
Child("echo", [sys.executable, "-u", "-c", pid], dict(os.environ), lambda _, text: print(text, flush=True))
signal.pause()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment({}))
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(child), what="the child has ended")
    parent.stdout.close()


def test_a_child_that_will_not_end_is_killed_when_asked_to_hurry() -> None:
    """A second Ctrl-C does not wait for a child that ignores the first."""
    lines: list[str] = []
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')\nwhile True: signal.pause()"
    child = Child("deaf", [sys.executable, "-u", "-c", code], dict(os.environ), lambda _, text: lines.append(text))
    wait_until(lambda: lines == ["deaf"], what="the child ignores SIGTERM", timeout_s=PATIENCE_S)
    hurry = threading.Event()
    hurry.set()
    child.stop(hurry=hurry)
    assert not child.is_alive


def test_ports_are_remembered_while_they_are_free(tmp_path: Path) -> None:
    """A server gets last time's port again, unless somebody else has it now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        Ports(tmp_path).remember("postgres", port)
        assert Ports(tmp_path).of("postgres") is None
    assert Ports(tmp_path).of("postgres") == port
    assert Ports(tmp_path).of("valkey") is None
