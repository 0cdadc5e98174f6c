"""What is only told to people: to a log, a terminal or a metric. No step's output depends on it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aos_workflow.determinism.lint.catalogue import words
from aos_workflow.determinism.lint.values import FunctionNode

#: What may be told and nothing is lost by it: how long it took, where it ran, which id a log line has.
MAY_BE_TOLD = words(
    """
    wall-clock local-time-zone process-identity environment object-identity random-uuid set-order os-entropy
    unseeded-random
    """
)
_LOGGERS = words("log logger _log _logger LOG LOGGER logging")
_LEVELS = words("debug info warning warn error exception critical fatal log")
_METRICS = words("observe timing")


def tells(call: ast.Call) -> bool:
    """Is it ``log.info(...)``, ``ctx.log.info(...)``, ``print(...)`` or ``LATENCY.observe(...)``?"""
    match call.func:
        case ast.Name(id="print"):
            return True
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=level):
            return (name in _LOGGERS and level in _LEVELS) or level in _METRICS
        case ast.Attribute(attr=level):
            return level in _METRICS
    return False


def only_told(function: FunctionNode) -> frozenset[str]:
    """The names of the function whose values go nowhere but into what is told, by way of other such names too."""
    nodes = list(ast.walk(function))
    calls = [node for node in nodes if isinstance(node, ast.Call) and tells(node)]
    if not calls:
        return frozenset()
    assigned: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
    told = {id(name) for call in calls for name in _read(call)}
    reads = {id(name): name.id for name in _read(function)}
    found: set[str] = set()
    while True:
        through = {id(name) for known in found for value in assigned[known] for name in _read(value)}
        lost = {name for place, name in reads.items() if place not in told and place not in through}
        more = {name for name in assigned if name in reads.values() and name not in lost}
        if more == found:
            return frozenset(found)
        found = more


def _read(node: ast.AST) -> Iterator[ast.Name]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load))
