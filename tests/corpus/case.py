"""Case: what a workflow of the corpus says about itself, and the World that its faults depend on.

A case is a module in ``faults/`` or ``clean/`` with a Celery ``app``, a Workflow ``flow`` named like the module, and
a ``CASE``. A faulty line carries the comment ``# <- fault``; where several do, any of them is the right place to name.

A class names what has to be put right, not what was called last: chance from a generator that the run's seed did
not reach is ``seed_mismatch`` wherever the wrong seed came from; a clock that is only read for a field which tells
about the performance (duration, host, request id) beside an equal answer is ``volatile_field``.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.corpus.server import AnsweringServer

CLASSES = (
    "seed_mismatch",
    "volatile_field",
    "unseeded_random",
    "wall_clock",
    "uuid",
    "os_entropy",
    "set_order",
    "object_identity",
    "environment",
    "filesystem",
    "process_state",
    "thread_race",
    "external_call",
    "code_change",
)
FOLDER = Path(__file__).parent
MARK = "# <- fault"

#: What a verdict must be: "either" where capture may serve the recording or may not reach that far.
Expected = Literal["diverged", "matched", "either", "ignored"]


@dataclass(kw_only=True)
class World:
    """What surrounds one case; ``prepare`` and ``before_replay`` change it.

    folder        the case's own files
    server        answers HTTP with what ``server.answers`` holds for a path; ``{server}`` in the inputs
    mortal        the same, and may be stopped: ``{mortal}`` in the inputs
    environment   of the next process that performs the case
    """

    folder: Path
    server: AnsweringServer
    mortal: AnsweringServer
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        """Write a file of the case."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """A change of source between recording and replay; ``old`` stands in ``file`` (default: the case) once."""

    old: str
    new: str
    file: str = ""


Change = Callable[[World], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One planted fault, or a clean workflow when ``cause`` is None.

    also            other causes that name the same fix, where the classes overlap
    expected        the verdict of replay
    inputs          of the run; ``{folder}``, ``{server}`` and ``{mortal}`` in strings are filled in
    runs_before     inputs of runs that the recording process performs first, with other seeds
    edits           changes of the source, prepare and before_replay those of the world
    served          two performances without capture differ, and only the recording makes them equal
    files           other files of the case, in its folder, where marked lines may stand
    sometimes       two performances may also be equal
    """

    cause: str | None = None
    also: tuple[str, ...] = ()
    expected: Expected = "diverged"
    inputs: Any = None
    seed: int = 2026
    runs_before: tuple[Any, ...] = ()
    prepare: Change | None = None
    before_replay: Change | None = None
    edits: tuple[Edit, ...] = ()
    served: bool = False
    files: tuple[str, ...] = ()
    sometimes: bool = False
    notes: str = ""

    @property
    def differs(self) -> bool:
        """Do two performances without capture differ?"""
        return self.served or self.cause is not None


def clean(**options: Any) -> Case:
    """A workflow that nothing may be said against."""
    return Case(**{"expected": "matched", **options})


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """A case and where it lives. ``kind`` is "faults" or "clean"."""

    name: str
    kind: str
    case: Case

    @property
    def sources(self) -> tuple[str, ...]:
        """The files of the case, relative to its folder."""
        return (f"{self.name}.py", *self.case.files)

    def marked(self) -> frozenset[str]:
        """Where the fault is: "file.py:line" of every marked line."""
        return frozenset(
            f"{source}:{number}"
            for source in self.sources
            for number, line in enumerate((FOLDER / self.kind / source).read_text(encoding="utf-8").splitlines(), 1)
            if MARK in line
        )

    def filled(self, inputs: Any, places: Mapping[str, str]) -> Any:
        """``inputs`` with the placeholders in their strings filled in."""
        match inputs:
            case str():
                return re.sub(r"\{(folder|server|mortal)\}", lambda found: places[found[1]], inputs)
            case Mapping():
                return {key: self.filled(value, places) for key, value in inputs.items()}
            case list() | tuple():
                return [self.filled(value, places) for value in inputs]
            case _:
                return inputs


def names(kind: str) -> list[str]:
    """The names of all cases of a kind; modules with a leading underscore are parts of others."""
    return sorted(path.stem for path in (FOLDER / kind).glob("[a-z]*.py"))


def written(kind: str, name: str) -> dict[str, ast.expr]:
    """What stands in the CASE of a module, by keyword, without importing it."""
    tree = ast.parse((FOLDER / kind / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CASE" and isinstance(node.value, ast.Call):
            return {keyword.arg: keyword.value for keyword in node.value.keywords if keyword.arg}
    raise ValueError(f"{kind}/{name}.py has no CASE")


def cause_of(name: str) -> str:
    """The cause that was planted in a case of ``faults``."""
    return str(ast.literal_eval(written("faults", name)["cause"]))


def batches() -> dict[str, list[tuple[str, str]]]:
    """(kind, name) of all cases in parts that share a process: the faults of a class each, the clean in four parts."""
    faults, unfaulted = names("faults"), names("clean")
    parts = {cause: [("faults", name) for name in faults if cause_of(name) == cause] for cause in CLASSES}
    return parts | {f"clean-{part}": [("clean", name) for name in unfaulted[part::4]] for part in range(4)}


def planted(kind: str, name: str) -> Planted:
    """One case, imported. Not for a process that performs other people's tasks: each case is a Celery app."""
    return Planted(name=name, kind=kind, case=importlib.import_module(f"tests.corpus.{kind}.{name}").CASE)
