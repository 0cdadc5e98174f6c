"""Patches: what was replaced where, and how it comes back.

Three places hold a function: a module's or class's attribute, the real dict of a class written in C, and names
that other modules bound early (``from time import time``). The last are rebound when they are adopted.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from aos_workflow.determinism.callers import owner_name

_FUNCTIONS = frozenset({BuiltinFunctionType, FunctionType, MethodType})


class Door:
    """What a gate is bound to: the module whose function it stands for.

    A gate is a bound method, because a plain function would bind itself when it is a class attribute:
    ``class Timer: clock = time.time`` and ``self.clock()`` must keep working. It pickles by name.
    """

    __slots__ = ("_module",)

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self._module.__name__,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Door:
        return self


class Gate(partial[Any]):
    """The function of a gate. It pickles by name, too: cloudpickle takes a bound method apart."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return gate_function, (self.__module__, self.__name__)  # type: ignore[attr-defined]

    def __copy__(self) -> Gate:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Gate:
        return self


def gate_of(module: ModuleType, name: str, function: Callable[..., Any]) -> MethodType:
    """``function``, whose first argument is its door, as the gate of ``module.name``."""
    original = getattr(module, name)
    function.__name__ = function.__qualname__ = name
    function.__module__ = module.__name__
    function.__doc__ = original.__doc__
    return MethodType(_gate(function), Door(module))


def gate_function(module: str, name: str) -> Gate:
    """The function of the gate of ``module.name``; where no gates are installed, one that asks the original."""
    present = getattr(getattr(import_module(module), name), "__func__", None)
    if isinstance(present, Gate):
        return present

    def original(door: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    original.__name__ = original.__qualname__ = name
    original.__module__ = module
    return _gate(original)


def _gate(function: Callable[..., Any]) -> Gate:
    gate = Gate(function)
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__", "__code__"):
        setattr(gate, attribute, getattr(function, attribute))
    return gate


def as_method(gate: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """``gate`` with the names of the method that it replaces, under which it is found and pickled."""
    for attribute in ("__module__", "__qualname__", "__doc__"):
        setattr(gate, attribute, getattr(original, attribute))
    return gate


class Patches:
    """All replacements of this process."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._gates: dict[Any, Any] = {}
        #: id of a namespace -> the namespace, held so that its id stays its own, and its size when it was searched.
        self._adopted: dict[int, tuple[dict[str, Any], int]] = {}
        self._seen_modules: tuple[int, Any] | None = None

    def attribute(self, holder: Any, name: str, gate: Any) -> None:
        """Replace an attribute of a module or of a class written in Python."""
        original = vars(holder)[name]
        setattr(holder, name, gate)
        self._undo.append(lambda: setattr(holder, name, original))
        if isinstance(holder, ModuleType):
            self._gates[original] = gate

    def c_attribute(self, kind: type, name: str, gate: Any) -> None:
        """Replace an attribute of a class written in C, behind its read-only view.

        Raises RuntimeError, with everything as before, where the interpreter does not allow it.
        """
        import ctypes  # not every interpreter has it

        if sys.implementation.name != "cpython":
            raise RuntimeError(f"{sys.implementation.name} keeps its classes elsewhere")
        bound = getattr(kind, name)
        (real,) = gc.get_referents(kind.__dict__)
        original = real[name]

        def put(value: Any) -> None:
            real[name] = value
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

        put(gate)
        if vars(kind)[name] is not gate or getattr(kind, name) == bound:
            put(original)
            raise RuntimeError(f"{kind.__name__}.{name} stays as it is")
        self._undo.append(lambda: put(original))
        self._gates[bound] = getattr(kind, name)

    def adopt(self, namespace: dict[str, Any]) -> None:
        """Rebind the early-bound names of ``namespace``; one that has grown is searched again."""
        known = self._adopted.get(id(namespace))
        if known is not None and known[1] == len(namespace):
            return
        if owner_name(namespace.get("__name__"), namespace) is not None:
            for name, value in tuple(namespace.items()):
                # only functions are looked up: a user's object may have a __hash__ or __eq__ of its own
                if type(value) in _FUNCTIONS and (gate := self._gate_for(value)) is not None:
                    self._rebind(namespace, name, value, gate)
        self._adopted[id(namespace)] = (namespace, len(namespace))

    def adopt_modules(self) -> None:
        """Do so for all modules that are new since the last call."""
        newest, is_complete = _newest_module(), True
        if newest == self._seen_modules:
            return
        for module in list(sys.modules.values()):
            if not issubclass(type(module), ModuleType):
                continue
            # as a module's own attribute, because a lazy module's would import it
            namespace = ModuleType.__getattribute__(module, "__dict__")
            if getattr(namespace.get("__spec__"), "_initializing", False):
                is_complete = False  # its other names are still to come
            elif id(namespace) not in self._adopted:
                self.adopt(namespace)
        self._seen_modules = newest if is_complete else None

    def knows(self, namespace: dict[str, Any]) -> bool:
        """Is there nothing new to adopt? Compares two sizes."""
        known = self._adopted.get(id(namespace))
        return known is not None and known[1] == len(namespace) and self._seen_modules == _newest_module()

    def restore(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()
        self._gates.clear()
        self._adopted.clear()
        self._seen_modules = None

    def _gate_for(self, value: Any) -> Any:
        try:
            return self._gates.get(value)
        except TypeError:  # bound to something that cannot be hashed
            return None

    def _rebind(self, namespace: dict[str, Any], name: str, original: Any, gate: Any) -> None:
        namespace[name] = gate

        def undo() -> None:
            if namespace.get(name) is gate:
                namespace[name] = original

        self._undo.append(undo)


def _newest_module() -> tuple[int, Any]:
    return len(sys.modules), next(reversed(sys.modules), None)
