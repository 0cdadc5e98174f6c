"""Bodies that are recorded while the step reads them: nobody waits for the end of an answer that may have none.

A Tape is recorded when its body has been read to the end, broke, or was closed before its time. What was
asked later under the same key waits for it, because a replay tells exchanges of one key apart by their
order. A body that is neither read to its end nor closed before the step ends is not recorded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from aos_workflow.clock import monotonic_s
from aos_workflow.determinism.http.exchange import LIMIT_BYTES, Answer, Asked, too_long
from aos_workflow.determinism.http.raised import describe
from aos_workflow.journal import EffectJournal

_PIECES = 4096
"""How many pieces of a body are told apart: a replay serves the rest of them as one."""


@dataclass(eq=False, slots=True)
class _Place:
    """Where an exchange stands among those of its key."""

    exchange: Mapping[str, Any] | None = None


_lines: WeakKeyDictionary[EffectJournal, dict[str, deque[_Place]]] = WeakKeyDictionary()
_lock = threading.RLock()  # the garbage collector may close a body at any time, in this thread too


def keep(journal: EffectJournal, exchange: Mapping[str, Any]) -> None:
    """Record an exchange behind those of the same key that are still being read."""
    with _lock:
        line = _lines.get(journal, {}).get(exchange["key"])
        if line:
            line.append(_Place(exchange))
            return
    journal.keep_exchange(exchange)


class Tape:
    """Records one body while it is read. ``head`` is its answer, so far without body."""

    def __init__(
        self, journal: EffectJournal, asked: Asked, head: Answer, elapsed_s: Callable[[], float] | None = None
    ) -> None:
        self._journal = journal
        self._asked = asked
        self._head = head
        self._elapsed_s = elapsed_s or (lambda: head.elapsed_s)
        self._parts: list[bytes] = []
        self._pieces: list[int] = []
        self._size = 0
        self._place = _Place()
        self.is_over = False
        self.is_cut = False
        with _lock:
            _lines.setdefault(journal, {}).setdefault(asked.key, deque()).append(self._place)

    def add(self, part: bytes) -> None:
        """The step has read this much more."""
        if self.is_over or not part:
            return
        self._parts.append(part)
        self._size += len(part)
        if len(self._pieces) < _PIECES:
            self._pieces.append(len(part))
        else:
            self._pieces[-1] += len(part)
        if self._size > LIMIT_BYTES:
            self._record(self._asked.unrecorded(too_long()))

    def end(self, *, is_cut: bool = False, error: Exception | None = None) -> None:
        """The body was read to its end, was cut before it, or broke with ``error``. Only the first end counts."""
        if self.is_over:
            return
        self.is_cut = is_cut
        self._head = replace(
            self._head,
            body=b"".join(self._parts),
            pieces=tuple(self._pieces),
            is_cut=is_cut,
            broken=describe(error) if error is not None else None,
            elapsed_s=self._elapsed_s(),
        )
        self._record(self._head.document(self._asked))

    @property
    def elapsed_s(self) -> float:
        return self._head.elapsed_s

    def _record(self, exchange: Mapping[str, Any]) -> None:
        with _lock:
            if self.is_over:
                return
            self.is_over = True
            self._parts.clear()
            self._place.exchange = exchange
            lines = _lines.get(self._journal, {})
            line = lines.get(self._asked.key, deque())
            while line and (first := line[0].exchange) is not None:
                line.popleft()
                self._journal.keep_exchange(first)
            if not line:
                lines.pop(self._asked.key, None)


def since(began_s: float) -> float:
    """Seconds since then, as they are recorded."""
    return round(monotonic_s() - began_s, 6)
