"""The determinism lint: finds in the text of step code what would make two performances of it differ.

    values        what a name stands for: imports and their aliases, sets, paths, generators
    flow          statements in the order they run
    source        a file's functions and classes, and which of them are steps
    catalogue     names that bring chance, time and the world in
    importing     what a module draws when it is imported
    telling       what is only told to people: logs, metrics
    order         where the order of a set comes to light
    inspection    what is noted while one function is looked through
    calls         the calls in it
    stepcode      all of it
    findings      the rules, and what is found
    allowances    ``# aos: allow[rule]``

Nothing is imported or run; nothing here does I/O. ``aos lint`` is its door.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from aos_workflow.determinism.lint.allowances import Allowance, allowances
from aos_workflow.determinism.lint.findings import RULES, Finding, Rule
from aos_workflow.determinism.lint.inspection import Reach, Trouble
from aos_workflow.determinism.lint.source import Function, SourceFile, read
from aos_workflow.determinism.lint.stepcode import StepCode

__all__ = ["RULES", "Finding", "Rule", "lint"]

#: Called when it is printed only, which no step's output is.
_SELDOM_CALLED = frozenset({"__repr__", "__str__", "__del__"})


def lint(source: str, *, file: str, everything: bool = False) -> list[Finding]:
    """What is non-deterministic in the steps of this file and in what they call within it, in the order of its lines.

    ``everything``: in every function of the file. Raises SyntaxError (ValueError for a null byte).
    """
    lines = re.split(r"\r\n|\r|\n", source)  # as Python counts them; splitlines knows more ends of lines
    found: dict[tuple[int, int, str, str], Finding] = {}
    for step, trouble in _troubles(read(source), everything=everything):
        finding = _finding(trouble, step, file=file, lines=lines)
        found.setdefault((finding.line, finding.column, finding.rule, finding.message), finding)
    return sorted(_not_allowed([*found.values()], allowances(source), file=file))


def _troubles(source: SourceFile, *, everything: bool) -> Iterator[tuple[str | None, Trouble]]:
    """Each trouble with the step that leads to it: first the code that is performed again, then what is recorded."""
    todo = _Todo(source)
    for is_recorded in (False, True):
        for function in source.every_function():
            if function.is_step and function.is_effect is is_recorded:
                todo.add(function, is_recorded=is_recorded, step=function.title)
        yield from todo.work(is_recorded=is_recorded)
    if everything:
        for function in source.every_function():
            todo.add(function, is_recorded=False, step=None)
        yield from todo.work(is_recorded=False)


class _Todo:
    """The functions that steps lead to, each looked through once: strictly if anything strict leads there."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._seen: set[int] = set()
        self._waiting: dict[bool, list[tuple[Function, str | None]]] = {False: [], True: []}
        self._classes: dict[bool, dict[str, str | None]] = {False: {}, True: {}}
        self._methods: dict[bool, dict[str, str | None]] = {False: {}, True: {}}
        self._methods_named: dict[str, list[Function]] = {}
        for function in source.every_function():
            if function.of_class is not None:
                self._methods_named.setdefault(function.node.name, []).append(function)

    def add(self, function: Function, *, is_recorded: bool, step: str | None) -> None:
        self._waiting[is_recorded].append((function, step))

    def work(self, *, is_recorded: bool) -> Iterator[tuple[str | None, Trouble]]:
        waiting = self._waiting[is_recorded]
        while waiting:
            function, step = waiting.pop(0)
            if id(function.node) in self._seen:
                continue
            self._seen.add(id(function.node))
            body = StepCode(self._source, function, is_recorded=is_recorded)
            for trouble in body.troubles:
                yield step, trouble
            for reach in body.reached:
                self._follow(reach, step)

    def _follow(self, reach: Reach, step: str | None) -> None:
        """Whoever makes an instance of a class may call its methods, also through a name nothing is known of."""
        mode, name = reach.is_recorded, reach.name[1:]
        classes, methods = self._classes[mode], self._methods[mode]
        if reach.name.startswith("?"):
            if name not in methods:
                methods[name] = step
                for function in self._methods_named.get(name, ()):
                    if function.of_class in classes:
                        self._add_named(function.name, mode, classes[function.of_class])
        elif name not in self._source.classes:
            self._add_named(reach.name, mode, step)
        elif name not in classes:
            classes[name] = step
            for base in self._source.classes[name].bases:
                if isinstance(base, ast.Name) and base.id in self._source.classes:
                    self._follow(Reach(name=f":{base.id}", is_recorded=mode), step)
            for function in self._source.every_function():
                called = function.node.name
                is_special = called.startswith("__") and called.endswith("__") and called not in _SELDOM_CALLED
                if function.of_class == name and (is_special or called in methods):
                    self._add_named(function.name, mode, step)

    def _add_named(self, name: str, mode: bool, step: str | None) -> None:
        for function in self._source.functions.get(name, ()):
            if not function.is_step and id(function.node) not in self._seen:
                self.add(function, is_recorded=mode, step=step)


def _finding(trouble: Trouble, step: str | None, *, file: str, lines: list[str]) -> Finding:
    node = trouble.node
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="replace")
    return Finding(
        file=file,
        line=node.lineno,
        column=len(before) + 1,
        end_line=node.end_lineno or node.lineno,
        rule=trouble.rule,
        cause=RULES[trouble.rule].cause,
        message=trouble.message,
        fix=trouble.fix,
        step=step,
    )


def _not_allowed(found: list[Finding], allowed: dict[int, Allowance], *, file: str) -> Iterator[Finding]:
    """The findings that no comment on their first or last line allows, and the comments that allow nothing."""
    used: set[tuple[int, str]] = set()
    for finding in found:
        comments = [allowed[line] for line in (finding.line, finding.end_line) if line in allowed]
        covering = [comment for comment in comments if comment.covers(finding.rule)]
        used.update((comment.line, finding.rule) for comment in covering)
        if not covering:
            yield finding
    for comment in allowed.values():
        for rule in comment.rules or ("",):
            if any(line == comment.line and rule in ("", found_rule) for line, found_rule in used):
                continue
            yield _unused(comment, rule, file=file)


def _unused(comment: Allowance, rule: str, *, file: str) -> Finding:
    shown = f"# aos: allow[{rule}]" if rule else comment.text
    known = RULES["unused-allow"]
    unknown = bool(rule) and rule not in RULES
    return Finding(
        file=file,
        line=comment.line,
        column=comment.column,
        end_line=comment.line,
        rule=known.code,
        cause=known.cause,
        message=f"{shown} names no rule there is" if unknown else f"{shown} {known.says}",
        fix=f"the rules are {', '.join(sorted(set(RULES) - {known.code}))}" if unknown else known.fix,
        step=None,
    )
