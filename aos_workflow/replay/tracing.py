"""Tracing: which lines of user code run, and what the local variables hold then, to find where two runs part."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

from aos_workflow.determinism.digests import digest_of
from aos_workflow.determinism.lint.catalogue import words
from aos_workflow.determinism.user_code import is_user_file
from aos_workflow.replay.state import Name

MOST_EVENTS = 20_000
#: Methods that change what they are called on.
_MUTATORS = words(
    """append appendleft extend extendleft insert pop popleft popitem remove clear add discard update setdefault put
    put_nowait write writelines move_to_end sort reverse"""
)


class Trace:
    """``events``: [file, line, line before in this frame, digest of the local variables or of the value returned]."""

    def __init__(self) -> None:
        self.events: list[list[Any]] = []
        self.lines: dict[tuple[str, int], None] = {}
        self.thread_lines: dict[tuple[str, int], None] = {}
        self._before: dict[int, int] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Trace what runs in the block, other threads included."""
        former = sys.gettrace()
        threading.settrace(self._begin)
        sys.settrace(self._begin)
        try:
            yield
        finally:
            sys.settrace(former)
            threading.settrace(None)

    def _begin(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not is_user_file(name) or "observer" in frame.f_code.co_freevars:
            return None
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if event == "line":
            self.lines.setdefault((file, line))
            if threading.current_thread() is not threading.main_thread():
                self.thread_lines.setdefault((file, line))
        if len(self.events) < MOST_EVENTS and event in ("line", "return"):
            before = self._before.get(id(frame), line) if event == "line" else line
            held = frame.f_locals if event == "line" else argument
            self.events.append([file, line, before, digest_of(held)])
            self._before[id(frame)] = line
        if event == "return":
            self._before.pop(id(frame), None)
        return self._line


def parting(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> str | None:
    """The line after which two traces are no longer the same."""
    for left, right in zip(one, other, strict=False):
        if list(left) != list(right):
            return f"{left[0]}:{left[2]}"
    return None


# --- what a line does -------------------------------------------------------------------------


def line_of_state(lines: Iterable[tuple[str, int]], names: Iterable[Name]) -> str | None:
    """The first of these lines that reads or changes one of these names."""
    names = list(names)
    for file, line in lines:
        mentioned = names_in(file, line)
        for kept_in, owner, name in names:
            if name in mentioned and _concerns(file, line, kept_in, owner, name):
                return f"{file}:{line}"
    return None


def _concerns(file: str, line: int, kept_in: str, owner: str, name: str) -> bool:
    """A function's default is meant in that function only."""
    if owner and file == kept_in and (owner, name) in _parameters(file):
        first, last = _parameters(file)[owner, name]
        return first <= line <= last
    return True


def line_that_shares(lines: Iterable[tuple[str, int]]) -> str | None:
    """The first of these lines that changes something it did not make."""
    return next((f"{file}:{line}" for file, line in lines if line in _changing(file)), None)


def line_of_field(field: str, lines: Iterable[tuple[str, int]]) -> str | None:
    """The line that writes a field of this name."""
    for file, line in lines:
        tree = _tree(file)
        if tree is not None and any(
            isinstance(node, ast.Constant) and node.value == field and node.lineno == line for node in ast.walk(tree)
        ):
            return f"{file}:{line}"
    return None


def names_in(file: str, line: int) -> set[str]:
    """The names that stand in a line."""
    return _mentioned(file).get(line, set())


@lru_cache(maxsize=256)
def _tree(file: str) -> ast.Module | None:
    try:
        with open(file, "rb") as source:
            return ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return None


@lru_cache(maxsize=256)
def _mentioned(file: str) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for node in ast.walk(_tree(file) or ast.Module([], [])):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        if name is not None:
            found.setdefault(node.end_lineno or node.lineno, set()).add(name)  # type: ignore[attr-defined]
    return found


@lru_cache(maxsize=256)
def _parameters(file: str) -> dict[tuple[str, str], tuple[int, int]]:
    found = {}
    for node, where in _functions(_tree(file) or ast.Module([], []), ""):
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            found[where, argument.arg] = (node.body[0].lineno, node.end_lineno or node.lineno)
    return found


def _functions(node: ast.AST, where: str) -> Iterator[tuple[Any, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, f"{where}{child.name}"
            yield from _functions(child, f"{where}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{where}{child.name}.")
        else:
            yield from _functions(child, where)


@lru_cache(maxsize=256)
def _changing(file: str) -> set[int]:
    found = set()
    for node in ast.walk(_tree(file) or ast.Module([], [])):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
                found.add(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            found.add(node.func.end_lineno or node.lineno)
        elif isinstance(node, ast.FunctionDef):
            declared = [inner for inner in ast.walk(node) if isinstance(inner, ast.Global | ast.Nonlocal)]
            outer = {name for inner in declared for name in inner.names}
            for inner in ast.walk(node) if outer else ():
                if isinstance(inner, ast.Assign | ast.AugAssign):
                    targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                    if any(isinstance(target, ast.Name) and target.id in outer for target in targets):
                        found.add(inner.lineno)
    return found
