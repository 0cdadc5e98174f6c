"""One child process that ends when this one ends, and the account it runs under."""

from __future__ import annotations

import atexit
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from aos_workflow.errors import EmbeddedUnavailable

STOP_TIMEOUT_S = 10.0
TRIAL_TIMEOUT_S = 30.0

# What runs between the fork and the server. A fresh interpreter, because ``preexec_fn`` may deadlock once
# there are threads. prctl(PR_SET_PDEATHSIG) follows setuid, which would undo it; getppid covers a parent that
# died before it. Rights are dropped here, not by Popen: ``nobody`` may be unable to reach the interpreter.
_TRAMPOLINE = """
import ctypes, os, sys
parent, signum, uid, gid, env, *argv = sys.argv[1:]
if int(uid):
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signum), 0, 0, 0)
if os.getppid() == int(parent):
    os.execve(argv[0], argv, dict(pair.split("=", 1) for pair in env.splitlines()))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Whose rights the servers have; uid 0 means "unchanged", since a server never runs as root."""

    uid: int = 0
    gid: int = 0

    def own(self, path: Path) -> None:
        """Give the file or folder to this account."""
        if self.uid:
            os.chown(path, self.uid, self.gid)

    def can_run(self, *argv: str | Path) -> bool:
        """Whether the command ends well for this account: it is there, can be reached, and loads."""
        groups: list[int] | None = [] if self.uid else None
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                cwd="/",
                env={"LC_ALL": "C"},
                capture_output=True,
                check=False,
                timeout=TRIAL_TIMEOUT_S,
                user=self.uid or None,
                group=self.gid or None,
                extra_groups=groups,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def server_account() -> Account:
    """``nobody`` for a root process, else the process's own account."""
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        text = "PostgreSQL cannot run as root and there is no user 'nobody'"
        raise EmbeddedUnavailable(text, fix="run as a normal user") from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


class Process:
    """A direct child that receives ``signum`` when this process ends, however that happens.

    The kernel sends that signal when the *thread* that forked the child ends. So a keeper thread of the
    child's own forks it, stays until it is gone, and reaps it; the caller's thread may end before.
    Raises OSError if the child cannot be started. ``log`` receives its stdout and stderr.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        signum: signal.Signals,
        account: Account,
        env: Mapping[str, str],
    ) -> None:
        self._signum = signum
        self._held: list[int] = []
        self.done = threading.Event()  # set when the child is gone, reaped, and its descriptors are closed
        variables = "\n".join(f"{name}={value}" for name, value in env.items())
        facts = [os.getpid(), int(signum), account.uid, account.gid, variables]
        command = [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, *map(str, facts), *argv]
        forked: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=self._keep, args=(command, log, forked), name="keeper", daemon=True).start()
        self._popen = forked.result()

    def _keep(self, command: list[str], log: Path, forked: Future[subprocess.Popen[bytes]]) -> None:
        try:
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A session of its own: Ctrl-C must reach the server through us, after its clients.
                popen = subprocess.Popen(
                    command,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            finally:
                os.close(output)
        except BaseException as error:
            forked.set_exception(error)
            return
        _alive.add(self)
        forked.set_result(popen)
        popen.wait()
        _alive.discard(self)
        self._let_go()
        self.done.set()

    def hold(self, descriptor: int) -> None:
        """Keep a duplicate of the descriptor open until the child is gone."""
        self._held.append(os.dup(descriptor))
        if self not in _alive:
            self._let_go()

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.returncode

    def stop(self) -> None:
        """End it in an orderly way, by force after STOP_TIMEOUT_S; nothing if it is gone or not ours."""
        if self in _alive:
            self._popen.send_signal(self._signum)
            if not self.done.wait(STOP_TIMEOUT_S):
                self.kill()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self in _alive:
            self._popen.kill()
            self.done.wait(STOP_TIMEOUT_S)


_alive: set[Process] = set()


def _stop_all() -> None:
    for process in list(_alive):
        process.stop()


def _disown() -> None:
    """In a forked child: the servers are the parent's, and so are the locks they hold."""
    while _alive:
        _alive.pop()._let_go()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_disown)
