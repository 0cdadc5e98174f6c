"""Fingerprint: what code a task consists of, so that a later replay can say that it changed, and where.

A task's code is the statement that defines its function and, transitively, the module-level statements of user
code that its names lead to: functions, classes, constants, in whatever module they stand. Each is kept as a hash
per source line; comments, blank lines and docstrings do not count. The standard library, installed packages
and this package are left out. A fingerprint speaks of the source as it is when the function is first asked about.
"""

from __future__ import annotations

import ast
import io
import os
import sys
import textwrap
import tokenize
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from types import ModuleType
from typing import Any

from aos_workflow.determinism.user_code import is_user_file, user_function

#: More statements than this are not looked at.
LONGEST = 300
_cache: dict[Any, dict[str, Any]] = {}
_pages: dict[str, _Page | None] = {}


def fingerprint(function: Any) -> dict[str, Any]:
    """JSON: {"file", "line", "source": [hash per line, "" where it does not count], "parts": [{"name", "file", ...}]}.

    ``function`` may be a Celery task. Empty for what has no source. Never raises.
    """
    try:
        written = user_function(function)
        if written is None:
            return {}
        key = (written.__code__.co_filename, written.__code__)  # equal code of two files is equal code to Python
        if key not in _cache:
            _cache[key] = _fingerprint(written)
        return _cache[key]
    except Exception:  # odd callables, odd sources: a recording must not fail for them
        return {}


def changed(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the code is not what it was: (name, "file:line" in today's code), the function itself first.

    A statement that is gone or new shows in the lines that name it.
    """
    if not recorded or not now:
        return []
    former = {part.get("name", ""): part for part in (recorded, *recorded.get("parts", ()))}
    found = []
    for part in (now, *now.get("parts", ())):
        before = former.get(part.get("name", ""))
        if before is not None and before.get("source") != part.get("source"):
            found += [(part.get("name") or "the function", place) for place in _changed_lines(before, part)]
    return found


def _changed_lines(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old = [line for line in before["source"] if line]
    new = [(offset, line) for offset, line in enumerate(now["source"]) if line]
    matcher = SequenceMatcher(None, old, [line for _, line in new], autojunk=False)
    for operation, _, _, start, _ in matcher.get_opcodes():
        if operation != "equal" and new:
            offset = new[min(start, len(new) - 1)][0]
            yield f"{now['file']}:{now['line'] + offset}"


# --- what belongs to a function ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Page:
    """A source file: its module-level statements, by each name they define."""

    file: str
    lines: tuple[str, ...]
    statements: Mapping[str, tuple[ast.stmt, ...]]
    body: tuple[ast.stmt, ...]


def _fingerprint(function: Any) -> dict[str, Any]:
    page = _page(function.__code__.co_filename)
    if page is None:
        return {}
    line = function.__code__.co_firstlineno
    own = next((node for node in page.body if _first_line(node) <= line <= (node.end_lineno or 0)), None)
    if own is None:
        return {}
    parts: dict[tuple[str, int], dict[str, Any]] = {}
    waiting: list[tuple[str, ast.stmt, _Page, dict[str, Any]]] = [("", own, page, function.__globals__)]
    while waiting and len(parts) < LONGEST:
        name, node, page, namespace = waiting.pop(0)
        key = (page.file, _first_line(node))
        if key in parts:
            continue
        parts[key] = {"name": name, **_written(page, node)}
        waiting += _referred(node, page, namespace)
    first, *others = parts.values()
    first.pop("name")
    return {**first, "parts": others}


def _referred(
    node: ast.stmt, page: _Page, namespace: dict[str, Any]
) -> Iterator[tuple[str, ast.stmt, _Page, dict[str, Any]]]:
    """The module-level statements that the names in ``node`` lead to."""
    for written in ast.walk(node):
        if isinstance(written, ast.Name):
            yield from _defining(written.id, page, namespace)
        elif isinstance(written, ast.Attribute) and isinstance(written.value, ast.Name | ast.Attribute):
            owner = _live(written.value, namespace)
            if isinstance(owner, ModuleType):
                yield from _in_module(owner, written.attr)


def _live(node: ast.expr, namespace: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return namespace.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _live(node.value, namespace)
        return vars(owner).get(node.attr) if isinstance(owner, ModuleType) else None
    return None


def _defining(
    name: str, page: _Page, namespace: dict[str, Any]
) -> Iterator[tuple[str, ast.stmt, _Page, dict[str, Any]]]:
    module = str(namespace.get("__name__", ""))
    for statement in page.statements.get(name, ()):
        if isinstance(statement, ast.ImportFrom):
            yield from _imported(name, statement, namespace)
        elif not isinstance(statement, ast.Import):
            yield f"{module}.{name}", statement, page, namespace


def _imported(
    name: str, statement: ast.ImportFrom, namespace: dict[str, Any]
) -> Iterator[tuple[str, ast.stmt, _Page, dict[str, Any]]]:
    original = next((alias.name for alias in statement.names if (alias.asname or alias.name) == name), name)
    package = str(namespace.get("__package__") or "")
    parent = package.rsplit(".", statement.level - 1)[0] if statement.level > 1 else package
    source = ".".join(filter(None, (parent if statement.level else "", statement.module or "")))
    module = sys.modules.get(source)
    if module is not None:
        yield from _in_module(module, original)


def _in_module(module: ModuleType, name: str) -> Iterator[tuple[str, ast.stmt, _Page, dict[str, Any]]]:
    file = getattr(module, "__file__", None)
    page = _page(file) if isinstance(file, str) and is_user_file(file) else None
    if page is not None:
        yield from _defining(name, page, vars(module))


# --- source ---------------------------------------------------------------------------------


def _page(file: str) -> _Page | None:
    if file not in _pages:
        _pages[file] = _read(file)
    return _pages[file]


def _read(file: str) -> _Page | None:
    try:
        with tokenize.open(file) as source:
            text = source.read()
        tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return None
    statements: dict[str, tuple[ast.stmt, ...]] = {}
    for node in tree.body:
        for name in dict.fromkeys(_names(node)):
            statements[name] = (*statements.get(name, ()), node)
    lines, body = tuple(text.splitlines()), tuple(tree.body)
    return _Page(file=os.path.abspath(file), lines=lines, statements=statements, body=body)


def _names(node: ast.stmt) -> Iterator[str]:
    """The names a module-level statement defines or changes."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            yield name  # CONFIG.update(...)
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for written in ast.walk(target):
                    if isinstance(written, ast.Name):
                        yield written.id
        case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
            for field in ("body", "orelse", "finalbody"):
                for inner in getattr(node, field, ()):
                    yield from _names(inner)
            for handler in getattr(node, "handlers", ()):
                for inner in handler.body:
                    yield from _names(inner)


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", ())
    return min((decorator.lineno for decorator in decorators), default=node.lineno)


def _written(page: _Page, node: ast.stmt) -> dict[str, Any]:
    first, last = _first_line(node), node.end_lineno or node.lineno
    lines = textwrap.dedent("\n".join(page.lines[first - 1 : last])).split("\n")
    uncounted = _uncounted(node)
    bare = _without_comments(lines)
    source = [
        "" if first + offset in uncounted or not line else f"{zlib.crc32(line.encode()):08x}"
        for offset, line in enumerate(bare)
    ]
    return {"file": page.file, "line": first, "source": source}


def _uncounted(node: ast.stmt) -> set[int]:
    """The lines of docstrings."""
    lines: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            docstring = inner.body[0]
            lines.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def _without_comments(lines: list[str]) -> list[str]:
    """The lines without comments and trailing blanks; indentation counts."""
    bare = list(lines)
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                bare[row - 1] = bare[row - 1][:column]
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass
    return [line.rstrip() for line in bare]
