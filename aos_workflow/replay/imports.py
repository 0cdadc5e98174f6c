"""What the user's modules open when they are imported, made harmless: a replay must not write through it.

The seal refuses what a step opens. A file or SQLite database that a module opened when it was imported is open
already, and writing to it announces nothing to anybody. So in a process that replays, SQLite databases are opened
read-only while modules are imported, and a file that is open for writing afterwards is exchanged for a copy in memory,
below the file object, with ``dup2``. What a step wrote there is reported, unless it was a line of a log.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aos_workflow.divergence import Cause
from aos_workflow.journal import Breach

#: A file that is open for reading too is copied up to this size, bytes; a larger one starts empty.
LARGEST_COPY_BYTES = 64 * 1024 * 1024
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass
class Imported:
    """The files that were exchanged: descriptor -> path, and how much was written to each so far."""

    paths: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def written(self) -> tuple[Breach, ...]:
        """What was written since this was last asked."""
        found = []
        for descriptor, path in self.paths.items():
            with suppress(OSError):
                size = os.fstat(descriptor).st_size
                if size != self.sizes[descriptor] and descriptor not in _of_logs():
                    what = f"to write {path}, which is open since its module was imported"
                    found.append(Breach(cause=Cause.FILESYSTEM, what=what))
                self.sizes[descriptor] = size
        return tuple(found)


@contextmanager
def harmless() -> Iterator[Imported]:
    """Import the user's modules inside; yields what will have been exchanged when the block ends (Linux)."""
    imported = Imported()
    before = set(_open_for_writing())
    former, sqlite3.connect = sqlite3.connect, _read_only  # type: ignore[assignment]
    sqlite3.dbapi2.connect = _read_only  # type: ignore[assignment]
    try:
        yield imported
    finally:
        sqlite3.connect = sqlite3.dbapi2.connect = former
        for descriptor, (path, is_read) in _open_for_writing().items():
            if descriptor not in before:
                imported.sizes[descriptor] = _exchange(descriptor, path, is_read=is_read)
                imported.paths[descriptor] = path


_connect: Callable[..., sqlite3.Connection] = sqlite3.connect


def _read_only(database: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
    """The database as it is, not to be written; one that is not there is empty and in memory."""
    written = os.fsdecode(database)
    if kwargs.get("uri") or written == ":memory:" or not written:
        return _connect(database, *args, **kwargs)
    if not os.path.exists(written):
        return _connect(":memory:", *args, **kwargs)
    return _connect(f"{Path(written).absolute().as_uri()}?mode=ro", *args, **{**kwargs, "uri": True})


def _open_for_writing() -> dict[int, tuple[str, bool]]:
    """Descriptor -> path of a regular file that is open for writing, and whether it can be read as well."""
    found = {}
    for name in os.listdir(_DESCRIPTORS) if _DESCRIPTORS.is_dir() else ():
        descriptor = int(name)
        with suppress(OSError):
            mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            if descriptor > 2 and mode != os.O_RDONLY and stat.S_ISREG(os.fstat(descriptor).st_mode):
                found[descriptor] = (os.readlink(_DESCRIPTORS / name), mode == os.O_RDWR)
    return found


def _exchange(descriptor: int, path: str, *, is_read: bool) -> int:
    """Let ``descriptor`` lead to a copy in memory; returns the copy's size."""
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    copy = os.memfd_create("aos-replay")
    if is_read and os.fstat(descriptor).st_size <= LARGEST_COPY_BYTES:
        os.write(copy, os.pread(descriptor, LARGEST_COPY_BYTES, 0))
    os.lseek(copy, position, os.SEEK_SET)
    os.dup2(copy, descriptor)
    os.close(copy)
    return os.fstat(descriptor).st_size


def _of_logs() -> set[int]:
    """The descriptors that handlers of ``logging`` write to."""
    found = set()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        with suppress(Exception):
            found.add(reference().stream.fileno())
    return found
