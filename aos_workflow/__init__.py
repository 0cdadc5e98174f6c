"""Durable, deterministic, provable workflows for people who stay on Celery."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aos_workflow import wiring
from aos_workflow.version import VERSION

if TYPE_CHECKING:
    from aos_workflow.canonical import VOLATILE_FIELDS
    from aos_workflow.context import StepContext
    from aos_workflow.engine import RunHandle, WorkflowEngine
    from aos_workflow.errors import AosError
    from aos_workflow.records import RunResult, RunStatus
    from aos_workflow.registry import Workflow, durable, step, workflow
    from aos_workflow.task import WorkflowTask

__version__ = VERSION

#: Public name -> the room it lives in. Rooms are entered on first use, so importing this package is cheap.
_PUBLIC = {
    "AosError": "errors",
    "RunHandle": "engine",
    "RunResult": "records",
    "RunStatus": "records",
    "StepContext": "context",
    "VOLATILE_FIELDS": "canonical",
    "Workflow": "registry",
    "WorkflowEngine": "engine",
    "WorkflowTask": "task",
    "durable": "registry",
    "step": "registry",
    "workflow": "registry",
}

__all__ = [
    "AosError",
    "RunHandle",
    "RunResult",
    "RunStatus",
    "VOLATILE_FIELDS",
    "StepContext",
    "Workflow",
    "WorkflowEngine",
    "WorkflowTask",
    "durable",
    "step",
    "workflow",
]

wiring.runtime.fill(lambda: import_module("aos_workflow.assembly").runtime())


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aos_workflow' has no attribute {name!r}")
    return getattr(import_module(f"aos_workflow.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
