"""The one place where upper rooms hand themselves to lower ones.

``Workflow.enqueue`` and ``WorkflowTask.__call__`` live below the rooms that can serve them.
They ask this slot, and ``aos_workflow/__init__.py`` fills it with ``assembly.runtime``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Slot:
    """A call that somebody above fills in later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._factory: Callable[[], Any] | None = None

    def fill(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self) -> Any:
        if self._factory is None:
            raise RuntimeError(f"nothing fills the slot {self.name!r}; import aos_workflow first")
        return self._factory()


#: The parts of this process: ``assembly.Runtime``.
runtime = Slot("runtime")
