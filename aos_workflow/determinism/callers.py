"""Who calls: a step's own code, or the machinery around it.

A log line asks for the time, a connection pool for chance. Whether the line is written and the connection
new must not shift what the step sees, so calls made by the standard library and by infrastructure pass
straight through. All other code is captured, third-party packages too: a series of recorded values belongs
to the module that asked for them, so one module's number of calls never shifts another's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

#: Packages that carry, store, log, measure or test, and whose calls are none of the step's business.
INFRASTRUCTURE = frozenset(
    {
        *("aos_workflow", "celery", "kombu", "billiard", "amqp", "vine", "flower", "gevent", "eventlet", "greenlet"),
        *("redis", "hiredis", "valkey", "sqlalchemy", "alembic", "psycopg2", "psycopg", "psycopg_pool"),
        *("urllib3", "requests", "httpx", "httpcore", "h11", "h2", "anyio", "sniffio", "tornado", "aiohttp"),
        *("loguru", "structlog", "sentry_sdk", "opentelemetry", "ddtrace", "newrelic"),
        *("prometheus_client", "rich", "tqdm"),
        *("pytest", "_pytest", "pluggy", "xdist", "execnet", "pytest_timeout", "hypothesis", "coverage"),
        *("time_machine", "freezegun", "IPython", "ipykernel", "debugpy", "pydevd"),
    }
)  # fmt: skip

#: Standard library that asks on behalf of whoever called it: what ``secrets.token_hex`` draws, its caller gets,
#: and ``gzip.compress`` writes the time into its result. Their caller decides instead of them.
_ON_BEHALF = frozenset(
    {"random", "secrets", "uuid", "statistics", "gzip", "zipfile", "tarfile", "email.utils", "email.generator",
     "http.cookies"}
)  # fmt: skip

#: Code that never asks for itself, only runs what it was given: ``Thread(target=work)``, ``pool.submit(uuid4)``.
#: There is no calling module in that thread; these calls have one name for all of them.
_RUNNERS = frozenset(
    {"threading", "concurrent.futures.thread", "multiprocessing.pool", "aos_workflow.determinism.threads"}
)

#: The module whose frame is below every step's.
_PERFORMER = "aos_workflow.perform"

#: The import system's locks of modules that are being imported, in any thread; a stand-in where there is no such thing.
_imports: dict[Any, Any] = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {"unknown": None})

#: Module name -> the name its series carry, or None when its calls pass through. Filled as modules call.
_NAMES: dict[str, str | None] = dict.fromkeys(_RUNNERS, "threads")


def series_owner(frame: FrameType | None) -> str | None:
    """The module for which a call made in ``frame`` is captured, or None when it passes through."""
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module not in _ON_BEHALF:
            return owner_name(module, frame.f_globals)
        frame = frame.f_back
    return None


def is_importing(frame: FrameType | None) -> bool:
    """Is a call made in ``frame`` part of a module's body that is just imported, directly or further down?

    A module is imported by whichever step comes first, and its body runs once per process: what it asks for must
    not shift what that step sees, because in another process another step does it.
    """
    if not _imports:  # no thread imports anything
        return False
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            if getattr(frame.f_globals.get("__spec__"), "_initializing", False):
                return True
        elif frame.f_globals.get("__name__") == _PERFORMER:
            return False  # what is beyond it imported the engine's caller, and no part of the step
        frame = frame.f_back
    return False


def owner_name(module: Any, namespace: dict[str, Any]) -> str | None:
    """The name under which the calls of ``module`` are recorded; None for standard library and infrastructure."""
    try:
        return _NAMES[module]
    except (KeyError, TypeError):
        name = module if isinstance(module, str) and module else "unnamed"
        known = _main_name(namespace) if name == "__main__" else name if is_captured(name) else None
        if isinstance(module, str):
            _NAMES[module] = known
        return known


def is_infrastructure(module: str) -> bool:
    """Is the module part of a package of ``INFRASTRUCTURE``?"""
    return module.partition(".")[0] in INFRASTRUCTURE


def is_captured(module: str) -> bool:
    """Is it neither infrastructure nor standard library?"""
    return not is_infrastructure(module) and module.partition(".")[0] not in sys.stdlib_module_names


def on_behalf(module: Any) -> bool:
    """Does the module ask only for its callers?"""
    return module in _ON_BEHALF


def _main_name(namespace: dict[str, Any]) -> str | None:
    """What ``__main__`` is called when it is imported: a replay may import what the recording ran as a script."""
    spec, file = namespace.get("__spec__"), namespace.get("__file__")
    if spec is not None:  # python -m package
        name = str(spec.name).removesuffix(".__main__")
        return name if is_captured(name) else None
    return Path(file).stem if isinstance(file, str) else "main"
