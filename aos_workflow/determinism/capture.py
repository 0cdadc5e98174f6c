"""Around a step's body: what untouched code calls is recorded live and served back in replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from aos_workflow.context import StepContext
from aos_workflow.determinism import ambient, http
from aos_workflow.determinism.captured import Captured, captured
from aos_workflow.terms import Terms


def capturing(terms: Terms, context: StepContext) -> AbstractContextManager[None]:
    """Capture what ``terms`` ask for while the block lasts, into (or, in replay, from) the context's journal."""
    if terms.capture == "none":
        return nullcontext()
    ambient.install()  # for "http" as well: a step's own threads see the capture through it
    if terms.captures_http:
        http.install()
    return _active(
        Captured(
            journal=context.journal,
            seed=context.seed,
            address=context.address,
            now_s=context.logical_time,
            ambient=terms.captures_ambient,
            http=terms.captures_http,
        )
    )


@contextmanager
def _active(what: Captured) -> Iterator[None]:
    token = captured.set(what)
    what.journal.outside = _uncaptured
    try:
        yield
    finally:
        what.is_over = True  # for a thread that the body left behind
        captured.reset(token)


def _uncaptured(function: Callable[[], Any]) -> Any:
    """Call it as if no capture were on."""
    token = captured.set(None)
    try:
        return function()
    finally:
        captured.reset(token)
