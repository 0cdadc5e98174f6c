"""Files that are there as a whole or not at all, whatever kills the writer and however full the disk is.

What is written goes to ``<name>.<random>.tmp`` in the same folder, to the disk, and only then to its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aos_workflow.clock import SystemClock
from aos_workflow.errors import GoldenNotWritten
from aos_workflow.faults import fault
from aos_workflow.ids import new_token

FOLDER_MODE, FILE_MODE = 0o750, 0o640
#: When the leftovers of writers that were killed are swept away, seconds.
LEFTOVER_AFTER_S = 3600.0
#: What a file system says that knows no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def make_folder(folder: Path) -> None:
    """Make a folder with 0750 if it is not there; raises OSError."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet, with 0640; False (and nothing written) if there is one of that name.

    Raises OSError; then nothing is left of it.
    """
    with new_file(path) as (file, place):
        _in_halves(file, data, path)
        return place()


def replace_whole(path: Path, data: bytes) -> None:
    """Exchange the content of a file; its times, mode and owner stay. Raises OSError, then it is as it was."""
    before = os.stat(path, follow_symlinks=False)
    with _beside(path, mode=stat.S_IMODE(before.st_mode)) as (file, written):
        _in_halves(file, data, path)
        with contextlib.suppress(PermissionError):
            os.chown(written, before.st_uid, before.st_gid)
        file.flush()
        os.utime(written, ns=(before.st_atime_ns, before.st_mtime_ns))
        _to_disk(file, path)
        os.rename(written, path)
    sync_folder(path.parent)


def read_whole(path: Path, limit_bytes: int) -> bytes:
    """The bytes of a regular file, at most one more than the limit; raises OSError. Never waits on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with open(descriptor, "rb") as file:
        return file.read(limit_bytes + 1)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_leftovers(folder: Path, *, older_than_s: float = LEFTOVER_AFTER_S) -> int:
    """Delete what writers that were killed left behind; returns how many."""
    deadline_s, swept = SystemClock().now() - older_than_s, 0
    for path in folder.glob("*.*.tmp"):
        with contextlib.suppress(OSError):  # by the time of the last change: re-signing keeps a file's own time
            if os.stat(path, follow_symlinks=False).st_ctime < deadline_s:
                os.unlink(path)
                swept += 1
    return swept


@contextmanager
def only_one(folder: Path, *, patiently: bool = False) -> Iterator[None]:
    """One process at a time, on this folder itself: no lock file is left. Raises GoldenNotWritten if another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if patiently else fcntl.LOCK_NB))
        except BlockingIOError:
            raise GoldenNotWritten(
                f"another process is re-signing, archiving or pruning {folder}", fix="wait until it is done"
            ) from None
        yield
    finally:
        os.close(descriptor)  # and with it the lock, however this process ends


@contextmanager
def new_file(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], bool]]]:
    """A file to write to, and what to call when it is complete: that gives it its name, with 0640.

    ``place`` answers False, and nothing is there, if there is a file of that name already. Raises OSError.
    """
    with _beside(path, mode=FILE_MODE) as (file, written):

        def place() -> bool:
            file.flush()
            _to_disk(file, path)
            if not _named(written, path):
                return False
            sync_folder(path.parent)
            return True

        yield file, place


def _named(written: Path, path: Path) -> bool:
    try:
        os.link(written, path)  # unlike a rename it never replaces what is there
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with only_one(path.parent, patiently=True):
            if path.exists():
                return False
            os.rename(written, path)
    return True


@contextmanager
def _beside(path: Path, *, mode: int) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty temporary file beside ``path``; its name is gone afterwards, whatever happens."""
    temporary = path.with_name(f"{path.name}.{new_token()}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask
        file = open(descriptor, "w+b")  # noqa: SIM115  its close may fail, and must not hide why
        try:
            yield file, temporary
        finally:
            with contextlib.suppress(OSError):  # what could not be written was told already
                file.close()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _in_halves(file: BinaryIO, data: bytes, path: Path) -> None:
    half = len(data) // 2
    file.write(data[:half])
    file.flush()
    fault("golden_half", path.name)
    file.write(data[half:])


def _to_disk(file: BinaryIO, path: Path) -> None:
    os.fsync(file.fileno())
    fault("golden_whole", path.name)
