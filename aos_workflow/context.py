"""StepContext: what a step is handed so that it can be performed twice with the same result.

ctx.random            chance, seeded by run seed and address
ctx.numpy_random      the same as a numpy Generator
ctx.now               the run's logical time
ctx.uuid()            ids, seeded
ctx.effect(name, f)   a value from outside: computed once, recorded, served back in replay
ctx.idempotency_key   the same for every attempt of this step: hand it to external services
ctx.session           rows written in the checkpoint's own transaction
ctx.replace(canvas)   "my value is the value of this canvas"
ctx.log               a logger that knows run, address and attempt
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

from aos_workflow.clock import SystemClock
from aos_workflow.errors import BadOption
from aos_workflow.ids import new_seed, new_token
from aos_workflow.journal import EffectJournal

if TYPE_CHECKING:
    from numpy.random import Generator
    from sqlalchemy.orm import Session

log = logging.getLogger("aos_workflow.step")


def derive_seed(run_seed: int, address: str) -> int:
    """The step's own seed, 0 <= seed < 2**64: SHA-256 of "seed:address", first eight bytes, big-endian.

    It depends on nothing else, so neither siblings' order nor attempts nor workers change what a step draws.
    """
    return int.from_bytes(hashlib.sha256(f"{run_seed}:{address}".encode()).digest()[:8], "big")


class Replacement:
    """What ``ctx.replace(canvas)`` returns; a step that returns it is replaced by the canvas.

    No dataclass, so that inside of another value it is refused instead of stored.
    """

    __slots__ = ("canvas",)

    def __init__(self, canvas: Any) -> None:
        self.canvas = canvas


@dataclass(kw_only=True)
class StepContext:
    """One attempt's view of its run."""

    run_id: str
    workflow: str
    address: str
    attempt: int
    seed: int
    logical_time: float
    journal: EffectJournal = field(default_factory=EffectJournal, repr=False)
    open_session: Callable[[], Session] | None = field(default=None, repr=False)

    @cached_property
    def random(self) -> Random:
        """A ``random.Random`` seeded by the run's seed and this address."""
        return Random(derive_seed(self.seed, self.address))

    @cached_property
    def numpy_random(self) -> Generator:
        """A ``numpy.random.Generator`` (PCG64) seeded by the run's seed and this address.

        Raises BadOption when numpy is not installed.
        """
        try:
            from numpy.random import PCG64, Generator
        except ImportError:
            raise BadOption("ctx.numpy_random needs numpy", fix="install it: pip install numpy") from None
        return Generator(PCG64(derive_seed(self.seed, f"{self.address}#numpy")))

    @cached_property
    def _ids(self) -> Random:
        return Random(derive_seed(self.seed, f"{self.address}#uuid"))

    @property
    def now(self) -> datetime:
        """The run's logical time (UTC, aware): when it was enqueued, the same in every attempt and replay."""
        return datetime.fromtimestamp(self.logical_time, UTC)

    def uuid(self) -> uuid.UUID:
        """A version 4 UUID drawn from the step's seed."""
        return uuid.UUID(int=self._ids.getrandbits(128), version=4)

    def effect(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` once and record its value; in replay the recorded value is served instead.

        A name used again in the same step means the next effect of that name.
        Raises NotCanonical if the value cannot be recorded.
        """
        return self.journal.perform(name, function, args, kwargs)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step of this run, and for no other step."""
        return f"{self.run_id}:{self.address}"

    @cached_property
    def session(self) -> Session:
        """A SQLAlchemy session whose writes commit in the checkpoint's own transaction, exactly once.

        Raises BadOption where there is no database to write to (a task called outside the engine).
        """
        if self.open_session is None:
            raise BadOption("ctx.session needs the engine's database", fix="run the step as part of a workflow")
        self.journal.used_session = True
        return self.open_session()

    @property
    def has_session(self) -> bool:
        """Did the step ask for ``session``?"""
        return "session" in self.__dict__

    def flush(self) -> None:
        """Send what the step wrote to the database, so that a row it refuses is an error of this attempt."""
        if self.has_session:
            self.session.flush()

    @cached_property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        facts = {
            "run": self.run_id,
            "address": self.address,
            "attempt": self.attempt,
            "workflow": self.workflow,
        }
        return logging.LoggerAdapter(log, facts)

    def replace(self, canvas: Any) -> Replacement:
        """Return this from the step: the value of ``canvas``, which the run performs next, becomes its own."""
        return Replacement(canvas)


current: ContextVar[StepContext | None] = ContextVar("aos_workflow_step", default=None)


def detached_context(task_name: str) -> StepContext:
    """The context of a step called as a plain function or a plain Celery task: real chance, real time."""
    return StepContext(
        run_id=f"detached-{new_token()}",
        workflow="detached",
        address=f"1.{task_name.rpartition('.')[2]}",
        attempt=1,
        seed=new_seed(),
        logical_time=SystemClock().now(),
    )
