"""The seal: while it is on nothing leaves the process, and what a step does inside of it goes on as ever."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.determinism import seal
from aos_workflow.errors import UndeclaredEffect
from aos_workflow.journal import EffectJournal

HERE = Path(__file__).name


@pytest.fixture
def journal() -> EffectJournal:
    return EffectJournal(is_replay=True)


def in_temporary_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "a" / "b"
        place.mkdir(parents=True)
        (place / "c").write_text("x")
        (place / "c").rename(place / "d")
        (place / "link").symlink_to(place / "d")
        with sqlite3.connect(place / "own.db") as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        shutil.copy(place / "d", place / "e")
    assert not Path(folder).exists()


def in_temporary_files() -> None:
    with tempfile.NamedTemporaryFile() as named, tempfile.TemporaryFile() as nameless:
        named.write(b"x")
        nameless.write(b"x")
    with tempfile.SpooledTemporaryFile(max_size=1) as spooled:
        spooled.write(b"xxxx")
    handle, path = tempfile.mkstemp()
    os.close(handle)
    os.remove(path)


def reads() -> None:
    assert Path(__file__).read_text()
    assert os.listdir(Path(__file__).parent)
    assert os.environ


def discards() -> None:
    with open(os.devnull, "w") as nothing:
        nothing.write("x")


def in_memory() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert gzip.decompress(gzip.compress(b"x")) == b"x"


def in_an_event_loop() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: 5)

    assert asyncio.run(work()) == 5


def in_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(str, [1, 2])) == ["1", "2"]


def through_a_pair() -> None:
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"
    one.close()
    other.close()


def logs() -> None:
    logging.getLogger("seal").warning("said")
    sys.stdout.write("said")


def imports() -> None:
    sys.modules.pop("this_is_not_there", None)
    with pytest.raises(ImportError):
        __import__("this_is_not_there")


INSIDE = (
    in_temporary_folder, in_temporary_files, reads, discards, in_memory, in_an_event_loop, in_threads, through_a_pair,
    logs, imports,
)  # fmt: skip


@pytest.mark.parametrize("act", INSIDE)
def test_what_stays_inside_is_allowed(act: Callable[[], None], journal: EffectJournal) -> None:
    """Reading, temporary files, threads, event loops and logging are a step's own business."""
    with seal.sealed(journal):
        act()
    assert journal.breaches == []


def outside_acts(folder: Path) -> dict[str, Callable[[], Any]]:
    there, gone = folder / "there", folder / "gone"
    return {
        "open": lambda: there.open("w"),
        "append": lambda: there.open("ab"),
        "create": lambda: gone.open("x"),
        "both": lambda: there.open("r+"),
        "os.open": lambda: os.open(gone, os.O_CREAT | os.O_RDONLY),
        "relative": lambda: open("seal-test-must-not-exist", "w"),
        "remove": lambda: os.remove(there),
        "rename": lambda: os.replace(there, gone),
        "rmtree": lambda: shutil.rmtree(folder / "full"),
        "rmdir": lambda: os.rmdir(folder / "empty"),
        "mkdir": lambda: gone.mkdir(),
        "link": lambda: os.link(there, gone),
        "symlink": lambda: os.symlink(there, gone),
        "chmod": lambda: there.chmod(0o600),
        "touch": lambda: there.touch(),
        "truncate": lambda: os.truncate(there, 0),
        "sqlite": lambda: sqlite3.connect(gone),
        "resolve": lambda: socket.getaddrinfo("localhost", 80),
        "gethostbyname": lambda: socket.gethostbyname("localhost"),
        "subprocess": lambda: subprocess.run(["touch", str(gone)], check=False),
        "system": lambda: os.system(f"touch {gone}"),
        "popen": lambda: os.popen(f"touch {gone}"),
        "fork": lambda: os.fork() or os._exit(0),
        "spawn": lambda: os.posix_spawn("/usr/bin/touch", ["touch", str(gone)], {}),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "kill": lambda: os.kill(os.getppid(), 0),
        "copy": lambda: shutil.copy(there, gone),
        "move": lambda: shutil.move(there, gone),
    }


@pytest.mark.parametrize("name", outside_acts(Path()))
def test_what_leaves_the_process_is_refused(name: str, tmp_path: Path, journal: EffectJournal) -> None:
    """It raises at the line that tried, that line is noted, and the world is as it was."""
    (tmp_path / "there").write_text("there")
    (tmp_path / "there").chmod(0o644)
    for folder in ("full", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full" / "file").write_text("")

    def look() -> list[Any]:
        return sorted(
            (str(path), path.is_file() and path.read_text(), path.stat().st_mode, path.stat().st_mtime_ns)
            for path in tmp_path.rglob("*")
        )

    before, act = look(), outside_acts(tmp_path)[name]
    with seal.sealed(journal), pytest.raises(UndeclaredEffect) as refused:
        act()
    assert look() == before
    assert not Path("seal-test-must-not-exist").exists()
    assert f"{HERE}:{act.__code__.co_firstlineno}" in str(journal.breaches[0].location)
    assert str(journal.breaches[0].location) in str(refused.value)
    assert {breach.cause for breach in journal.breaches} <= {"external_call", "filesystem"}


def test_a_link_in_a_temporary_folder_leads_nowhere_else(tmp_path: Path, journal: EffectJournal) -> None:
    """What is written through a link, or linked from outside, is outside."""
    (tmp_path / "there").write_text("there")
    with seal.sealed(journal), tempfile.TemporaryDirectory() as own:
        inside = Path(own) / "link"
        inside.symlink_to(tmp_path / "there")
        with pytest.raises(UndeclaredEffect):
            inside.write_text("x")
        (Path(own) / "own").write_text("x")
        for link in (os.link, os.symlink):
            with pytest.raises(UndeclaredEffect):
                link(Path(own) / "own", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["there"]
    assert (tmp_path / "there").read_text() == "there"


def test_a_temporary_file_of_others_is_not_the_step_s(journal: EffectJournal) -> None:
    """Only what was made while this seal is on is the step's own."""
    with tempfile.TemporaryDirectory() as others, seal.sealed(journal), pytest.raises(UndeclaredEffect):
        (Path(others) / "x").write_text("x")


def test_the_seal_ends(tmp_path: Path, journal: EffectJournal) -> None:
    """After it everything goes on as before, also after an error."""
    with pytest.raises(LookupError), seal.sealed(journal):
        raise LookupError
    (tmp_path / "written").write_text("x")
    subprocess.run(["true"], check=True)
    assert seal.active() is None
    assert journal.breaches == []


def test_a_seal_holds_for_the_threads_it_starts(tmp_path: Path, journal: EffectJournal) -> None:
    """Threads and pools of the step are sealed, those that were there before are not."""

    def write(name: str) -> str:
        try:
            (tmp_path / name).write_text("x")
        except UndeclaredEffect:
            return "refused"
        return "written"

    answers: list[str] = []
    begin = threading.Event()

    def wait_and_write() -> None:
        begin.wait(5)
        answers.append(write("other"))

    other = threading.Thread(target=wait_and_write)
    other.start()
    with seal.sealed(journal):
        own = threading.Thread(target=lambda: answers.append(write("own")))
        own.start()
        own.join()
        with ThreadPoolExecutor(1) as pool:
            answers.append(pool.submit(write, "pool").result())
        begin.set()
        other.join()
    assert answers == ["refused", "refused", "written"]
    assert [str(breach.location).rpartition("/")[2].partition(":")[0] for breach in journal.breaches] == [HERE, HERE]


def test_a_seal_of_all_threads(tmp_path: Path, journal: EffectJournal) -> None:
    """In a process that only replays, a thread of any origin is sealed."""
    answers: list[str] = []
    begin = threading.Event()

    def work() -> None:
        begin.wait(5)
        try:
            (tmp_path / "x").write_text("x")
        except UndeclaredEffect:
            answers.append("refused")

    other = threading.Thread(target=work)
    other.start()
    with seal.sealed(journal, all_threads=True):
        begin.set()
        other.join()
    assert answers == ["refused"]
    (tmp_path / "x").write_text("x")


def test_a_driver_imported_by_the_step_is_guarded(tmp_path: Path) -> None:
    """In a fresh process, a step that is the first to import a C driver finds its door guarded."""
    code = """
import json, socket, sys
from aos_workflow.determinism import seal
from aos_workflow.journal import EffectJournal
server = socket.create_server(("127.0.0.1", 0))
server.settimeout(0.2)
journal = EffectJournal(is_replay=True)
with seal.sealed(journal):
    from psycopg2 import connect
    try:
        connect(host="127.0.0.1", port=server.getsockname()[1], connect_timeout=1)
    except Exception as error:
        raised = type(error).__name__
try:
    server.accept()
    seen = True
except TimeoutError:
    seen = False
print(json.dumps([raised, seen, [breach.what for breach in journal.breaches]]))
"""
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ["UndeclaredEffect", False, ["psycopg2.connect"]]
