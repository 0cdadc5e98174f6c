"""Arrivals: a library is patched when it is imported, and a patched function stands in front of its original."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from aos_workflow.determinism.patching import Patches

log = logging.getLogger(__name__)


def gate(patches: Patches, holder: type, name: str, around: Callable[..., Any]) -> None:
    """``holder.name`` becomes a function that calls ``around(original, *args, **kwargs)``."""
    original = vars(holder)[name]

    def gated(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    patches.attribute(holder, name, update_wrapper(gated, original))


class Arrivals(MetaPathFinder):
    """Calls a library's patch once: now if it is imported already, else right after its import."""

    def __init__(self, patches: Mapping[str, Callable[[], None]]) -> None:
        self._waiting = dict(patches)
        self._lock = threading.Lock()

    def watch(self) -> None:
        # Watching first: a library that another thread imports meanwhile is met by one of the two.
        sys.meta_path.insert(0, self)
        for library in tuple(self._waiting):
            if library in sys.modules:
                self.arrived(library)

    def stop(self) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        self._waiting.clear()

    def arrived(self, library: str) -> None:
        with self._lock:
            patch = self._waiting.pop(library, None)
        if patch is None:
            return
        try:
            patch()
        except Exception:  # its import is the user's: a release that we do not know must not break it
            log.warning("HTTP of %s is not captured: this release of it is unknown", library, exc_info=True)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders find, with a loader that says when the library has been loaded."""
        if fullname not in self._waiting:
            return None
        for finder in tuple(sys.meta_path):
            find = getattr(finder, "find_spec", None) if finder is not self else None  # importlib skips those without
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Announcing(spec.loader, self)
                return spec
        return None


class _Announcing(Loader):
    """A loader that announces the one module it loads, and stays in none of the module's attributes."""

    def __init__(self, loader: Loader, arrivals: Arrivals) -> None:
        self._loader = loader
        self._arrivals = arrivals

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._arrivals.arrived(module.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # importlib asks a loader for more than the two
