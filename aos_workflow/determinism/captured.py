"""What is captured right now: set around a step's body, asked by every patched function.

The patches are installed once per process and pass straight through while this is None, so threads
that perform no step never notice them.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from random import Random

from aos_workflow.context import derive_seed
from aos_workflow.journal import EffectJournal


@dataclass(kw_only=True)
class Captured:
    """The capture of one attempt at ``address`` of a run with ``seed``.

    now_s      the run's logical time, seconds since the epoch: a replay's clock beyond the recording
    is_over    the body has ended: what a thread it left behind draws is not recorded any more
    """

    journal: EffectJournal
    seed: int
    address: str
    now_s: float
    ambient: bool
    http: bool
    is_over: bool = False

    @property
    def chance(self) -> Random:
        """What the functions of ``random`` draw from; made when the first one is called."""
        return self._made("chance")

    @property
    def beyond(self) -> Random:
        """Where a replay takes entropy from when the recording has no more."""
        return self._made("beyond")

    def _made(self, name: str) -> Random:
        # Two threads of one step that ask at once must get the same one.
        attribute = f"_{name}"
        if attribute not in self.__dict__:
            made = Random(derive_seed(self.seed, f"{self.address}#{name}"))
            self.__dict__.setdefault(attribute, made)
        source: Random = self.__dict__[attribute]
        return source


captured: ContextVar[Captured | None] = ContextVar("aos_workflow_captured", default=None)
