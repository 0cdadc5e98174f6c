"""What is captured right now: set around a step's body, asked by every patched function.

The patches are installed once per process and pass straight through while this is None, so threads
that perform no step never notice them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
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
    _chances: dict[str, Random] = field(default_factory=dict, init=False, repr=False, compare=False)
    _chance_of_all: Random | None = field(default=None, init=False, repr=False, compare=False)
    _late: dict[str, Iterator[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def chance_of(self, owner: str) -> Random:
        """What the functions of ``random`` draw from when module ``owner`` calls them: a generator of its own.

        More or fewer calls in one module never shift what another draws.
        """
        shared = self._chance_of_all
        if shared is not None:
            return shared
        known = self._chances.get(owner)
        if known is None:  # of two threads that ask at once both must get the same one
            made = Random(derive_seed(self.seed, f"{self.address}#chance@{owner}"))
            known = self._chances.setdefault(owner, made)
        return known

    @property
    def chance(self) -> Random:
        """One generator for all modules from now on: whoever seeds chance means that of the whole process."""
        if self._chance_of_all is None:
            self._chance_of_all = self._made("chance")
        return self._chance_of_all

    def late(self, series: str) -> int:
        """How many readings a replay took beyond the recording of this clock before this one."""
        return next(self._late.setdefault(series, count()))

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
