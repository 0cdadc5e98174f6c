"""What the user named to be replayed: golden files, folders of them, ids of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aos_workflow.errors import AosError, BadOption

#: Characters of a shell's pattern: one that matched nothing arrives as it was written.
_PATTERN = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One recording to be replayed, or why it could not be read. ``golden`` is its path, None for a run."""

    name: str
    golden: str | None
    document: Mapping[str, Any] | None = None
    error: AosError | None = None


def golden_files(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files that ``names`` stand for (a folder: its ``*.json``), and those names that are no path.

    Raises BadOption for a pattern that matched nothing and for a folder without goldens.
    """
    files: dict[Path, None] = {}
    others = []
    for name in names:
        if not name.strip():
            raise BadOption("an empty name is no golden and no run", fix="name a file, a folder or a run")
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.glob("*.json") if file.is_file())
            if not inside:
                raise BadOption(f"there is no *.json in {name}", fix="name a folder with goldens", path=name)
            files.update(dict.fromkeys(inside))
        elif path.exists():
            files[path] = None
        elif _PATTERN & set(name):
            raise BadOption(f"no file matches {name}", fix="check the folder", path=name)
        elif "/" in name or name.endswith(".json"):
            raise BadOption(f"there is no {name}", fix="name a golden, a folder of them, or a run", path=name)
        else:
            others.append(name)
    return list(files), others


def read_targets(
    files: Iterable[Path], runs: Iterable[str], *, read: Callable[[Path], Mapping[str, Any]],
    load: Callable[[str], Mapping[str, Any]],
) -> list[Target]:  # fmt: skip
    """One target per file and run; what ``read`` or ``load`` raises (AosError) becomes the target's error."""
    targets = []
    for file in files:
        targets.append(_target(str(file), str(file), lambda file=file: read(file)))  # type: ignore[misc]
    for run in runs:
        targets.append(_target(run, None, lambda run=run: load(run)))  # type: ignore[misc]
    return targets


def _target(name: str, golden: str | None, get: Callable[[], Mapping[str, Any]]) -> Target:
    try:
        return Target(name=name, golden=golden, document=get())
    except AosError as error:
        return Target(name=name, golden=golden, error=error)
