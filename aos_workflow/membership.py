"""Membership: this process as a member of the fleet, with its heartbeat.

A process joins when it first needs an identity. A forked child is a process of its own: it
notices the new pid and joins anew. A process that let a claim go without being able to say so
(the database was away) starts a new life under a new id; its old claims are then plainly dead.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from aos_workflow.clock import monotonic_s
from aos_workflow.errors import StoreError
from aos_workflow.fleet import Fleet, this_host
from aos_workflow.ids import new_worker_id
from aos_workflow.records import Busy, WorkerProcess

log = logging.getLogger("aos_workflow.fleet")


class Membership:
    """One process's identity in the fleet. ``kind`` says what it is: worker, beat, inline ..."""

    def __init__(self, fleet: Fleet, *, kind: str, beat_every_s: float) -> None:
        self.fleet = fleet
        self.kind = kind
        self._beat_every_s = beat_every_s
        self._lock = threading.Lock()
        self._me: WorkerProcess | None = None
        self._stop = threading.Event()

    def id(self) -> str:
        """This process's id; joins the fleet if it has not yet."""
        me = self._me
        return me.id if me is not None else self.join().id

    def join(self) -> WorkerProcess:
        """Register this process and start its heartbeat."""
        with self._lock:
            if self._me is None:
                me = WorkerProcess(id=new_worker_id(), kind=self.kind, host=this_host(), pid=os.getpid())
                self.fleet.join(me)
                self._me = me
                self._stop = threading.Event()
                threading.Thread(target=self._beat, args=(me, self._stop), name="aos-heartbeat", daemon=True).start()
            return self._me

    def start_new_life(self) -> None:
        """Give up this id, and with it every claim made under it."""
        with self._lock:
            former, self._me = self._me, None
            self._stop.set()
        if former is not None:
            threading.Thread(target=self._bury, args=(former.id,), name="aos-burial", daemon=True).start()

    def leave(self) -> None:
        """Say goodbye: the process stops now."""
        with self._lock:
            former, self._me = self._me, None
            self._stop.set()
        if former is not None:
            try:
                self.fleet.leave(former.id)
            except StoreError as error:
                log.warning("could not say goodbye: %s", error)

    def report_dead(self, claim: Busy) -> bool:
        """Is the holder of a claim a neighbour whose process is gone? Then say so, and True."""
        if claim.host != this_host() or not claim.pid or is_running(claim.pid):
            return False
        try:
            self.fleet.leave(claim.worker_id)
        except StoreError as error:
            log.warning("could not report %s dead: %s", claim.worker_id, error)
            return False
        return True

    def _beat(self, me: WorkerProcess, stop: threading.Event) -> None:
        while not stop.wait(self._beat_every_s):
            try:
                with self._lock:  # a goodbye must be the last word
                    if not stop.is_set():
                        self.fleet.beat(me)
            except StoreError as error:
                # Silent for longer than its time to live, its steps may be taken over; the fence decides.
                log.warning("heartbeat of %s failed: %s", me.id, error)
            except Exception:
                log.exception("heartbeat of %s failed", me.id)  # the thread must go on: a process without it is dead

    def _bury(self, worker_id: str) -> None:
        """Until the database knows that the old id is dead, or its heartbeat has run out by itself."""
        deadline_s = monotonic_s() + 2 * self.fleet.ttl_s
        while monotonic_s() < deadline_s:
            try:
                self.fleet.leave(worker_id)
            except StoreError:
                self.fleet.clock.sleep(self._beat_every_s)
            else:
                return


def is_running(pid: int) -> bool:
    """Is there a process of this pid that is not a zombie?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] not in (
            "Z",
            "X",
        )
    except (OSError, IndexError):
        return status.parent.exists() or not Path("/proc/self").exists()
