"""What a module draws, or reads off a clock, when it is imported: the same for all steps of a process."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aos_workflow.determinism.lint.catalogue import source_of_call, words
from aos_workflow.determinism.lint.values import Attributes, Scope, own_nodes, value_of

_DRAWN = words("unseeded-random wall-clock random-uuid os-entropy process-identity object-identity")
_PLAIN = ("builtins.", "time.", "datetime.", "random.", "uuid.", "os.", "secrets.", "hashlib.", "numpy.random.")


def drawn_at_import(tree: ast.Module, scope: Scope, known: Attributes) -> Iterator[tuple[str, tuple[str, int]]]:
    """``SEED = int.from_bytes(os.urandom(4))``: another value in every process. Name, rule and line."""
    for node in own_nodes(tree.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        calls = [inner for inner in ast.walk(value) if isinstance(inner, ast.Call)]
        called = [(call, value_of(call.func, scope, known)) for call in calls]
        if not all(found is None or found.name.startswith(_PLAIN) for _, found in called):
            continue  # an object that is made with an id or a time is not that id
        for call, found in called:
            source = source_of_call(found.name, call) if found is not None else None
            if source is not None and source.rule in _DRAWN and not _is_generator(call):
                yield name, (source.rule, node.lineno)


def _is_generator(call: ast.Call) -> bool:
    """``random.Random()``: what is drawn from it is found where it is drawn."""
    return ast.unparse(call.func).rpartition(".")[2] in ("Random", "SystemRandom", "default_rng", "RandomState")
