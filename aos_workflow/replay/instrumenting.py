"""User modules, imported with a hook at every place where something from outside can come in.

    f(x)              __aos_call__(site, f)(x)       who is really called, with what, and what it gives
    for a in b        for a in __aos_iter__(site, b)     is it a set
    f"{a}"            f"{__aos_shown__(site, a)}"        does the text show an address or a set
    a % b             __aos_filled__(site, a, b)
    os.environ["A"]   __aos_read__(site, os.environ)["A"]
    sys.argv          __aos_attribute__(site, sys, "argv")

The call itself still happens in the user's frame, or in one that says it is. Only a process made for it does this.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from aos_workflow.determinism.lint.catalogue import words
from aos_workflow.determinism.user_code import is_user_file

#: Called in the frame that means itself: these stay as they are.
_OWN_FRAME = frozenset({"super", "locals", "globals", "vars", "dir", "eval", "exec", "__import__", "breakpoint"})
_ATTRIBUTES = words(
    """argv version version_info platform executable path flags prefix hexversion maxsize byteorder tzname timezone
    altzone daylight name sep orig_argv implementation"""
)
_CONVERSIONS = {-1: "", 115: "s", 114: "r", 97: "a"}


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Site:
    """A place in user code where something can come in. ``key`` is the same in every process."""

    file: str
    line: int
    key: str
    kind: str
    call: ast.Call | None = None
    conversion: str = ""

    @property
    def location(self) -> str:
        return f"{self.file}:{self.line}"


#: Every site of this process; hooks are handed the index.
sites: list[Site] = []


def install(hooks: dict[str, Callable[..., Any]], is_wanted: Callable[[str], bool] = is_user_file) -> None:
    """From now on, modules whose file ``is_wanted`` are imported with hooks."""
    for name, hook in hooks.items():
        setattr(builtins, name, hook)
    loader = importlib.machinery.SourceFileLoader
    plain = loader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if not is_wanted(path):
            return plain(self, fullname)
        try:
            return instrumented(self.get_data(path), path)
        except (SyntaxError, RecursionError, ValueError):
            return plain(self, fullname)  # it says itself what is wrong

    loader.get_code = get_code  # type: ignore[method-assign]


def instrumented(source: bytes | str, path: str) -> CodeType:
    """The code of a module with hooks."""
    tree = _Hooks(path).visit(ast.parse(source, path))
    code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    return code


class _Hooks(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self._file = file

    def _site(self, node: Any, kind: str, **more: Any) -> ast.Constant:
        key = f"{self._file}:{node.lineno}:{node.col_offset}:{node.end_lineno}:{node.end_col_offset}:{kind}"
        sites.append(Site(file=self._file, line=_line(node), key=key, kind=kind, **more))
        return ast.Constant(len(sites) - 1)

    @staticmethod
    def _hook(name: str, *args: ast.expr, at: ast.expr) -> ast.Call:
        return ast.copy_location(ast.Call(ast.copy_location(ast.Name(name, ast.Load()), at), list(args), []), at)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        site = None
        if not (isinstance(node.func, ast.Name) and node.func.id in _OWN_FRAME):
            plain = ast.Call(node.func, list(node.args), list(node.keywords))
            site = self._site(node, "call", call=plain)
        self.generic_visit(node)
        if site is not None:
            node.func = self._hook("__aos_call__", site, node.func, at=node.func)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        site = self._site(node.iter, "iter")
        self.generic_visit(node)
        node.iter = self._hook("__aos_iter__", site, node.iter, at=node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        site = self._site(node.iter, "iter")
        self.generic_visit(node)
        if not node.is_async:
            node.iter = self._hook("__aos_iter__", site, node.iter, at=node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        site = self._site(node.value, "iter")
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = self._hook("__aos_iter__", site, node.value, at=node.value)
        return node

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        site = self._site(node.value, "iter")
        self.generic_visit(node)
        node.value = self._hook("__aos_iter__", site, node.value, at=node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        unpacks = any(isinstance(target, ast.Tuple | ast.List) for target in node.targets)
        site = self._site(node.value, "iter") if unpacks else None
        self.generic_visit(node)
        if site is not None:
            node.value = self._hook("__aos_iter__", site, node.value, at=node.value)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        site = self._site(node.value, "shown", conversion=_CONVERSIONS.get(node.conversion, ""))
        self.generic_visit(node)
        node.value = self._hook("__aos_shown__", site, node.value, at=node.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        is_text = isinstance(node.op, ast.Mod) and not _is_number(node.left)
        site = self._site(node, "filled") if is_text else None
        self.generic_visit(node)
        if site is None:
            return node
        return self._hook("__aos_filled__", site, node.left, node.right, at=node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        is_read = isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name | ast.Attribute)
        site = self._site(node, "read") if is_read else None
        self.generic_visit(node)
        if site is not None:
            node.value = self._hook("__aos_read__", site, node.value, at=node.value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        site = None
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            other = node.comparators[0]
            site = self._site(node, "read") if isinstance(other, ast.Name | ast.Attribute) else None
        self.generic_visit(node)
        if site is not None:
            other = node.comparators[0]
            node.comparators[0] = self._hook("__aos_read__", site, other, at=other)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        is_read = isinstance(node.ctx, ast.Load) and node.attr in _ATTRIBUTES and isinstance(node.value, ast.Name)
        site = self._site(node, "attribute") if is_read else None
        self.generic_visit(node)
        if site is None:
            return node
        return self._hook("__aos_attribute__", site, node.value, ast.Constant(node.attr), at=node)

    # What is no code that runs in order, or may not hold a call:

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        if node.guard is not None:
            node.guard = self.visit(node.guard)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: Any) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node  # type: ignore[no-any-return]

    def visit_TypeAlias(self, node: Any) -> ast.AST:
        return node  # type: ignore[no-any-return]


def _line(node: Any) -> int:
    """The line of a call in a chain over several lines is that of its name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.end_lineno or node.lineno
    return int(node.lineno)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)
