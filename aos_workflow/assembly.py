"""Assembly: the only place where parts are joined.

``runtime()`` is what this process is made of. It is built once per process from the
settings; a forked child builds its own, so it never shares a connection with its parent.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import Clock
from aos_workflow.database import open_database
from aos_workflow.dispatch import CeleryDispatch
from aos_workflow.divergence import Verdict
from aos_workflow.engine import WorkflowEngine
from aos_workflow.errors import BadOption, SettingsError
from aos_workflow.executor import StepExecutor
from aos_workflow.faults import install
from aos_workflow.fleet import Fleet
from aos_workflow.golden import GoldenRecorder
from aos_workflow.goldens.ledger import GoldenLedger
from aos_workflow.membership import Membership
from aos_workflow.registry import load_app
from aos_workflow.replay.crew import Crew, Lane
from aos_workflow.replay.explain import explain
from aos_workflow.replay.loading import Loader
from aos_workflow.replay.targets import Target
from aos_workflow.schema import metadata
from aos_workflow.settings import Settings, environment
from aos_workflow.signing import KeyRing
from aos_workflow.task import CeleryTasks
from aos_workflow.terms import Terms


class Runtime:
    """The parts of one process, each made when it is first needed."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None, kind: str = "process") -> None:
        self.settings = settings
        self.kind = kind
        self._clock = clock
        if settings.faults:
            install(settings.faults, settings.fault_log)
        self._dispatches: weakref.WeakKeyDictionary[Any, CeleryDispatch] = weakref.WeakKeyDictionary()

    @cached_property
    def store(self) -> CheckpointStore:
        """The configured database, or without one a private file that vanishes with this process."""
        settings = self.settings
        if settings.database_url:
            engine = open_database(
                settings.database_url, pool_size=settings.pool_size, application_name=f"aos {self.kind}"
            )
        else:
            engine = open_database(f"sqlite:///{self._private_directory / 'runs.db'}")
            metadata.create_all(engine)
        return CheckpointStore(engine, clock=self._clock, worker_ttl_s=settings.worker_ttl_s)

    @cached_property
    def _private_directory(self) -> Path:
        self._keep = tempfile.TemporaryDirectory(prefix="aos-", ignore_cleanup_errors=True)
        return Path(self._keep.name)

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet(self.store.engine, clock=self.store.clock, ttl_s=self.settings.worker_ttl_s)

    @cached_property
    def membership(self) -> Membership:
        return Membership(self.fleet, kind=self.kind, beat_every_s=self.settings.heartbeat_every_s)

    @cached_property
    def executor(self) -> StepExecutor:
        return StepExecutor(
            self.store,
            worker_id=self.membership.id,
            report_dead=self.membership.report_dead,
            start_new_life=self.membership.start_new_life,
            output_limit_bytes=self.settings.output_limit_bytes,
            volatile=self.settings.volatile,
        )

    @cached_property
    def engine(self) -> WorkflowEngine:
        return WorkflowEngine(self)

    # --- goldens ---------------------------------------------------------------------------

    @cached_property
    def keys(self) -> KeyRing:
        """The keys that sign and verify goldens; may be empty."""
        settings = self.settings
        return KeyRing.of(settings.golden_secret, settings.golden_old_secrets, settings.golden_keys_file)

    @cached_property
    def golden_ledger(self) -> GoldenLedger:
        return GoldenLedger(self.store)

    @cached_property
    def recorder(self) -> GoldenRecorder:
        return GoldenRecorder(
            self.settings.golden_dir,
            self.keys,
            self.store,
            self.golden_ledger,
            facts_of=lambda task: self.tasks.facts(task),  # the app is imported when a run is recorded, not before
            volatile=self.settings.volatile,
        )

    def leaves_golden(self, run_id: str, terms: Terms) -> bool:
        """Is a golden of this run to be written? Not without a key to sign it with."""
        return self.settings.signs_goldens and terms.leaves_golden(run_id, self.settings.golden)

    def crew(self, **changes: Any) -> Crew:
        """Processes that replay goldens with this process's app; ``changes`` are fields of ``Crew``.

        Raises SettingsError when nothing says which module they are to import.
        """
        if not self.settings.app:
            raise SettingsError(
                "AOS_APP is not set: a process that replays would not know your tasks",
                fix="set it to the module with your Celery app, in the workers too",
            )
        return Crew(app=self.settings.app, environment=environment(), volatile=self.settings.volatile, **changes)

    @property
    def tasks(self) -> CeleryTasks:
        """The tasks of this process's app, for whoever performs steps without a message."""
        return CeleryTasks(self.app())

    @cached_property
    def loader(self) -> Loader:
        """Reads what is to be replayed: golden files, and runs if a database is configured."""
        return Loader(self.keys, self.recorder if self.has_shared_store else None)

    def replay_apart(
        self,
        target: str,
        *,
        hash_seed: str | None = None,
        tz: str | None = None,
        cwd: str | None = None,
        shuffle: int | None = None,
    ) -> dict[str, Any]:
        """Replay one golden or run in a fresh process that finds these things different; ``Replayed`` as JSON.

        Raises BadOption for a path that is not there and a folder that holds more than one golden.
        """
        changes = {name: value for name, value in {"PYTHONHASHSEED": hash_seed, "TZ": tz}.items() if value is not None}
        crew = self.crew(processes=1, shuffle=shuffle, changes=changes, cwd=Path(cwd) if cwd else None)
        ((_, answer),) = crew.replay([self._target(target)])
        return answer

    def explain(
        self, targets: Sequence[Target], *, tell: Callable[[int], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """One result per target, with the cause of its divergence; ``tell(index)``: it is done."""
        crew = self.crew()
        return explain(targets, app=crew.app, environment=crew.environment, volatile=crew.volatile, tell=tell)

    def judge(self, golden: str) -> dict[str, Any]:
        """Replay one golden, in a process that is kept for more of them; if it diverges, with the cause."""
        target = self._target(golden)
        answer = self._lane.replay(target)
        if answer["verdict"] != Verdict.DIVERGED:
            return answer
        (explained,) = self.explain([target])
        return explained if explained["divergence"] else answer  # a race may be won the second time

    def _target(self, name: str) -> Target:
        targets = self.loader.targets([name])
        if len(targets) != 1:
            raise BadOption(f"{name} holds {len(targets)} goldens", fix="name one of them", path=name)
        return targets[0]

    @cached_property
    def _lane(self) -> Lane:
        return Lane(self.crew())

    # --- Celery ----------------------------------------------------------------------------

    def dispatch(self, app: Any) -> CeleryDispatch:
        """The way to the broker of a Celery app."""
        if app not in self._dispatches:
            if self.settings.broker_url:
                app.conf.broker_url = self.settings.broker_url
            self._dispatches[app] = CeleryDispatch(app, window=self.settings.window)
        return self._dispatches[app]

    def load_app(self) -> Any:
        """Import the module that AOS_APP names, if it names one; returns its Celery app."""
        return load_app(self.settings.app) if self.settings.app else None

    def app(self) -> Any:
        """The Celery app of this process: AOS_APP's, or the one that is current."""
        return self.load_app() or load_app("")

    def say_goodbye(self) -> None:
        """This process stops: whatever it was on may be taken over at once."""
        if "membership" in self.__dict__:
            self.membership.leave()

    def close(self) -> None:
        """Say goodbye and close every connection."""
        self.say_goodbye()
        if "_lane" in self.__dict__:
            self._lane.close()
        if "store" in self.__dict__:
            self.store.engine.dispose()

    @property
    def has_shared_store(self) -> bool:
        """Is a database configured that other processes can reach?"""
        return bool(self.settings.database_url)

    def require_shared_store(self) -> None:
        """Raises SettingsError without a database that workers can reach."""
        self.settings.required_database_url()


_runtimes: dict[int, Runtime] = {}
_lock = threading.Lock()


def runtime() -> Runtime:
    """The parts of this process; built from the environment on first use."""
    known = _runtimes.get(os.getpid())
    if known is not None:
        return known
    with _lock:
        return _runtimes.setdefault(os.getpid(), Runtime(Settings.from_environment()))


def use(parts: Runtime) -> Runtime:
    """Make these the parts of this process (a worker's start-up, a test)."""
    _runtimes[os.getpid()] = parts
    return parts


@contextmanager
def runtime_as(parts: Runtime) -> Iterator[Runtime]:
    """These are the parts of this process while the block lasts."""
    before = _runtimes.get(os.getpid())
    use(parts)
    try:
        yield parts
    finally:
        _runtimes.pop(os.getpid(), None)
        if before is not None:
            use(before)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for parts in _runtimes.values():
        if "store" in parts.__dict__:
            # The parent's connections stay the parent's: forget them without closing.
            parts.store.engine.dispose(close=False)


os.register_at_fork(after_in_child=_after_fork)
