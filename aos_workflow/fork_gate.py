"""Fork gate: no process is forked while a background thread of this one is in the middle of something.

A forked child gets its parent's locks as they are, and of its threads only the one that forked. What another thread
held at that moment stays locked in the child for ever, and the child's first wish for it is its last: it hangs, with
a heartbeat that goes on. Python and billiard renew the locks of logging. Nobody renews those of kombu's
``cached_property`` (one for each property of a class, taken at every look), of the buffer under stderr, and of
whatever an app or a library brings along. Both of these were seen: children hung in the publish that follows a
commit, and in the line in the log that says so.

So it is the other way round: the thread works ``with fork_gate.busy()``, and who forks waits until it is out.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("aos_workflow.fleet")

#: A thread that is busy for longer most likely waits for a server, and holds nothing then that a child needs. Who
#: waits is a worker's main thread, which does nothing else meanwhile, and Celery kills a new child whose first
#: word it has not heard within four seconds. Seconds.
PATIENCE_S = 3.0


class ForkGate:
    """Threads are ``busy``, or somebody forks, not both. Nobody waits longer than ``patience_s`` for the same work."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._busy: set[int] = set()
        self._hopeless: set[int] = set()
        self._forks = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """No other thread forks while the block lasts; it begins when nobody is about to."""
        me = threading.get_ident()
        self._enter(me)
        try:
            yield
        finally:
            self._leave(me)

    def breathe(self) -> None:
        """In the middle of long work, holding nothing: let those go first who wait to fork."""
        me = threading.get_ident()
        if me in self._busy and self._forks:
            self._leave(me)
            self._enter(me)

    def _enter(self, me: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._busy.add(me)

    def _leave(self, me: int) -> None:
        with self._changed:
            self._busy.discard(me)
            self._hopeless.discard(me)
            self._changed.notify_all()

    # --- what os.fork calls -----------------------------------------------------------------

    def shut(self) -> None:
        """Before: wait for everybody else who is busy, and let nobody begin."""
        with self._changed:
            self._forks += 1
            if not self._changed.wait_for(lambda: not self._awaited(), self._patience_s):
                self._hopeless |= self._awaited()

    def open(self) -> None:
        """After, in the parent."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()
            is_hopeless = bool(self._hopeless)
        if is_hopeless:
            log.warning("forked while a thread was busy for over %g s: the new process may hang", self._patience_s)

    def renew(self) -> None:
        """After, in the child: the other threads are not there any more, whatever they held."""
        self._changed = threading.Condition()
        self._busy &= {threading.get_ident()}
        self._hopeless = set()
        self._forks = 0

    def _awaited(self) -> set[int]:
        return self._busy - self._hopeless - {threading.get_ident()}


_gate = ForkGate()
busy, breathe = _gate.busy, _gate.breathe
os.register_at_fork(before=_gate.shut, after_in_parent=_gate.open, after_in_child=_gate.renew)
