"""The seal: while it is on, a step reaches nothing outside of its process. What it tries is noted and refused.

Python announces to an audit hook (PEP 578) what leaves the process: connecting a socket, starting a process,
opening a file to write, removing one. The hook is installed with the first seal of a process, cannot be removed,
and lets everything pass while no seal is on. What is announced to nobody has a Python door that is guarded too:
C libraries that connect by themselves, connections that are open already, processes that are spawned.
Reading files is not refused: it is an input, and comparing outputs shows a changed one.

What the standard library's ``tempfile`` makes for a step is the step's own and may be written.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from aos_workflow.determinism import ambient, threads
from aos_workflow.journal import EffectJournal

#: Audit event -> how it is named in a report. https://docs.python.org/3/library/audit_events.html
_NETWORK = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendmsg", "socket.sendto"}
)  # fmt: skip
_PROCESSES = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.spawn", "os.startfile",
     "os.system", "pty.spawn", "subprocess.Popen"}
)  # fmt: skip
_FILES = frozenset(
    {"os.chflags", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.setxattr",
     "os.symlink", "os.truncate", "os.utime", "sqlite3.connect"}
)  # fmt: skip
#: Which of an event's arguments are changed; the first one unless it is said here.
_CHANGED = {"os.link": (1,), "os.rename": (0, 1), "os.symlink": (1,)}
#: These change a name, not what a link of that name leads to.
_OF_NAMES = frozenset({"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"})
_TEMPORARY = frozenset({"tempfile.mkstemp", "tempfile.mkdtemp"})
_SINKS = frozenset({os.devnull, "/dev/tty"})
#: Drivers written in C, which connect by themselves: module, function. The first is what psycopg2.connect calls.
_DRIVERS = (("psycopg2", "_connect"), ("psycopg", "connect"), ("MySQLdb", "connect"), ("oracledb", "connect"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Seal:
    """One sealed performance: where it notes what was tried, and what is the step's own."""

    def __init__(self, journal: EffectJournal) -> None:
        self._journal = journal
        self._own: set[str] = set()

    #: The step has ended: a thread that it or a library left behind is nobody's any more.
    is_over = False

    def refuse(self, cause: str, what: str) -> None:
        """Note it and raise UndeclaredEffect."""
        raise self._journal.breach(cause, what)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what would leave the process; raises UndeclaredEffect."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and not self._may_write(path):
                self.refuse("filesystem", f"to write {os.fsdecode(path)}")
        elif event in _NETWORK or event in _PROCESSES:
            self.refuse("external_call", f"{event} {_target(arguments)}")
        elif event in _TEMPORARY:
            self._own.add(os.path.realpath(arguments[0]))
        elif event in _FILES and not _changes_nothing(event, arguments):
            targets = [arguments[position] for position in _CHANGED.get(event, (0,))]
            follows = event not in _OF_NAMES
            if not all(self._is_own(_absolute(target, arguments[-1]), follows=follows) for target in targets):
                self.refuse("filesystem", f"{event} {_target(arguments)}")

    def _may_write(self, path: Any) -> bool:
        if isinstance(path, int) or os.path.isdir(path):
            return True  # an open descriptor; a temporary file without a name
        return self._is_own(path)

    def _is_own(self, path: Any, *, follows: bool = True) -> bool:
        if isinstance(path, int):
            return True
        written = os.fsdecode(path)
        if written in _SINKS or written == ":memory:" or "__pycache__" in written:
            return True
        folder, name = os.path.split(written)
        real = os.path.realpath(written) if follows else os.path.join(os.path.realpath(folder), name)
        return any(real == own or real.startswith(own + os.sep) for own in self._own)


_seal: ContextVar[Seal | None] = ContextVar("aos_workflow_seal", default=None)
#: The seal of threads without one of their own, in a process that does nothing but replay.
_of_all_threads: list[Seal] = []
_lock = threading.Lock()
_is_installed = False


def active() -> Seal | None:
    """The seal that holds here, if any."""
    seal = _seal.get()
    if seal is not None and not seal.is_over:
        return seal
    return _of_all_threads[-1] if _of_all_threads else None


@contextmanager
def sealed(journal: EffectJournal, *, all_threads: bool = False) -> Iterator[Seal]:
    """Let nothing leave this process while the block lasts; what is tried is noted in ``journal`` as a breach.

    ``all_threads``: the seal holds for threads of any origin, for a process that does nothing but replay.
    """
    _install()
    seal = Seal(journal)
    token = _seal.set(seal)
    if all_threads:
        _of_all_threads.append(seal)
    try:
        yield seal
    finally:
        seal.is_over = True
        if all_threads:
            _of_all_threads.remove(seal)
        _seal.reset(token)


def _install() -> None:
    global _is_installed
    ambient.install()  # for its gate in front of threads
    with _lock:
        if not _is_installed:
            tempfile.gettempdir()  # looks for a folder it may write to, once
            threads.carry(_seal)
            _guard_doors()
            sys.addaudithook(_hear)
            _is_installed = True
        _guard_sqlalchemy()


def _changes_nothing(event: str, arguments: tuple[Any, ...]) -> bool:
    """Would the system refuse it anyway: to make a folder that is there, to remove what is not?"""
    path = _absolute(arguments[0], arguments[-1])
    if event == "os.mkdir":
        return os.path.lexists(path)
    return event in ("os.remove", "os.rmdir") and not os.path.lexists(path)


_HEARD = frozenset({"open", *_NETWORK, *_PROCESSES, *_FILES, *_TEMPORARY})


def _hear(
    event: str,
    arguments: tuple[Any, ...],
    # bound here, because a hook outlives the names of its module when the interpreter ends
    heard: frozenset[str] = _HEARD,
    active: Callable[[], Seal | None] = active,
) -> None:
    # Called for every import, open and attribute lookup of the process: what is not ours must cost nothing.
    if event not in heard:
        return
    seal = active()
    if seal is not None:
        seal.hear(event, arguments)


def _guard_doors() -> None:
    # Imported here, because one that the step imports first would come without a guard.
    for module, function in _DRIVERS:
        if find_spec(module) is not None:
            _guard(import_module(module), function, f"{module}.{function.lstrip('_')}")
    _guard(socket.socket, "send", _over_open_connection)
    _guard(socket.socket, "sendall", _over_open_connection)
    for name in ("send", "sendall", "write"):
        _guard(import_module("ssl").SSLSocket, name, _over_open_connection)
    _guard(import_module("multiprocessing.process").BaseProcess, "start", "to start a process")


def _guard_sqlalchemy() -> None:
    """Its pool hands out connections that are open already. Imported later, it has none."""
    base = sys.modules.get("sqlalchemy.engine.base")
    if base is not None:
        _guard(base.Engine, "raw_connection", _to_database)


def _guard(holder: Any, name: str, what: str | Callable[..., str]) -> None:
    function = getattr(holder, name)
    if hasattr(function, "is_guarded"):
        return

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        seal = active()
        if seal is not None:
            told = what if isinstance(what, str) else what(args[0])
            if told:
                seal.refuse("external_call", told)
        return function(*args, **kwargs)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    setattr(holder, name, guarded)


def _over_open_connection(sender: socket.socket) -> str:
    """Empty for one end of a pair, with which a process talks to itself."""
    try:
        peer = sender.getpeername()
    except OSError:
        return ""  # it is not connected: it knows which error to raise
    return f"to send to {peer}" if peer else ""


def _to_database(engine: Any) -> str:
    """Empty for one in memory."""
    url = engine.url
    is_in_memory = url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")
    return "" if is_in_memory else f"a connection to {url.render_as_string(hide_password=True)}"


def _absolute(path: Any, folder: Any) -> Any:
    """``path`` as it is meant: below ``folder``, if that is an open descriptor."""
    if isinstance(path, int) or not isinstance(folder, int) or folder < 0:
        return path
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
    except OSError:
        return path


def _target(arguments: tuple[Any, ...]) -> str:
    """What was aimed at, short, without the bytes that would have been sent."""
    shown = [str(argument) for argument in arguments[:2] if isinstance(argument, str | bytes | tuple | list)]
    return " ".join(shown)[:200]
