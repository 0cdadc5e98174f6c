"""A process of its own for replaying: JSON lines in, JSON lines out. Both ends of the line.

A fresh interpreter, because a replay must not see what the recording process left in its memory, and because
hash seed, time zone and working folder can only be chosen before Python starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

from aos_workflow.clock import monotonic_s
from aos_workflow.errors import ReplayProcessLost

#: What a process that replays is not told: it needs no store, no broker, no key and no token.
SECRET = (
    "AOS_API_TOKEN", "AOS_BROKER_URL", "AOS_DATABASE_URL", "AOS_GOLDEN_KEYS_FILE", "AOS_REDIS_URL",
    "CELERY_BROKER_READ_URL", "CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND",
    "GOLDEN_HMAC_OLD_SECRETS", "GOLDEN_HMAC_SECRET", "SHADOW_HOOK",
)  # fmt: skip
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class Child:
    """The parent's end. One request at a time; the process is replaced by making a new ``Child``."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        changes: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start ``python -m module arguments``. ``environment`` is this process's, ``changes`` go before it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**without_secrets(environment), "PYTHONPATH": _search_path(), **(changes or {})},
            cwd=cwd,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Send a request, wait for its answer.

        Raises ReplayProcessLost when the process dies or is too slow; it is dead then.
        """
        deadline_s = monotonic_s() + timeout_s
        try:
            line = self._line(deadline_s) if self._send(request, deadline_s) else b""
        except OSError:  # it closed its end
            line = b""
        if not line:
            status = self._dead()
            raise ReplayProcessLost(
                f"the process that replayed {status}",
                fix="perform the step alone to see why: aos explain",
                status=status,
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process end; it has nothing to lose."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _send(self, request: Mapping[str, Any], deadline_s: float) -> bool:
        """False if the process does not read it in time: more than a pipe holds would wait for ever."""
        assert self._process.stdin is not None
        pipe, left = self._process.stdin.fileno(), memoryview(json.dumps(request).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_WRITE)
            while left:
                if not selector.select(max(0.0, deadline_s - monotonic_s())):
                    return False
                left = left[os.write(pipe, left) :]
        return True

    def _line(self, deadline_s: float) -> bytes:
        """The next line, b"" if there is none in time."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            parts = [self._buffer]
            while b"\n" not in parts[-1]:
                if not selector.select(max(0.0, deadline_s - monotonic_s())):
                    return b""
                read = os.read(self._process.stdout.fileno(), 1 << 16)
                if not read:
                    return b""
                parts.append(read)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return line

    def _dead(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=0.2)
            self.close()
            return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        self.close()
        return "did not answer in time"


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that replays."""
    return {name: value for name, value in environment.items() if name not in SECRET}


def _search_path() -> str:
    """The child finds the modules this process finds, wherever its working folder is."""
    return os.pathsep.join(os.path.abspath(folder) for folder in sys.path)


# --- the child's end -----------------------------------------------------------------------

Line: TypeAlias = "tuple[Iterator[dict[str, Any]], IO[str]]"


def serve(answer: Callable[[dict[str, Any]], Mapping[str, Any]], line: Line | None = None) -> None:
    """Answer requests until the parent closes the line (of ``own_line``, where user code is imported before)."""
    requests, answers = line or own_line()
    for request in requests:
        answers.write(json.dumps(answer(request)) + "\n")
        answers.flush()


def own_line() -> Line:
    """Keep standard input and output for requests and answers: what user code prints goes to stderr from now on.

    Must be called before the first line of user code, which may print while it is imported.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return (json.loads(line) for line in requests), answers


def cut_off_network() -> str:
    """Leave this process without any network interface, C libraries included, where Linux lets us.

    Must be called before the first thread starts. Returns how it is sealed: "namespace" or "audit" (Python only).
    """
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (OSError, AttributeError):
        return "audit"
    if unshare(_CLONE_NEWNET) == 0:
        return "namespace"
    user, group = os.getuid(), os.getgid()
    if unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return "audit"
    with suppress(OSError):  # be who we were inside as well
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return "namespace"
