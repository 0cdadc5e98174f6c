"""The process that performs steps for the sake of looking at them: ``python -m aos_workflow.replay.observing APP``.

request    {"documents": [recording, ...], "volatile": [...], "control": Control.as_json(), "timeout_s": seconds}
answer     {"performed": [[step, ...] per recording and pass], "sites": [...], "state": [...], "lines": {...}, ...}
           or {"error": {...}} when the app cannot be loaded; {"lost": how} when the performance died or took too long

Every request is performed by a fork: nothing stays behind. It forks from a process that has imported the user's
modules, or, where what is to differ may be read at import, imports them itself; Celery is loaded once.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from aos_workflow.clock import monotonic_s
from aos_workflow.determinism import fingerprint as fingerprints
from aos_workflow.determinism.order import shuffled
from aos_workflow.errors import AosError
from aos_workflow.recording import Recording
from aos_workflow.registry import load_app
from aos_workflow.replay import instrumenting, state, tracing
from aos_workflow.replay.child import cut_off_network, serve
from aos_workflow.replay.imports import harmless
from aos_workflow.replay.observer import Observer
from aos_workflow.replay.performing import Reperformed, reperform
from aos_workflow.task import CeleryTasks


def main(app_name: str) -> None:
    """Serve until the parent closes the line."""
    cut_off_network()
    crew = _Crew(app_name)
    serve(crew.answer)


class _Crew:
    """Hands requests to forks: of this process, or of one that has imported the user's modules already."""

    def __init__(self, app_name: str) -> None:
        self._app_name = app_name
        self._warm: dict[bool, _Warm] = {}

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        control = request["control"]
        if control["is_fresh"]:
            return in_a_fork(lambda: observe(self._app_name, None, request), request["timeout_s"])
        is_instrumented = bool(control["instrument"])
        if is_instrumented not in self._warm:
            self._warm[is_instrumented] = _Warm(self._app_name, is_instrumented)
        return self._warm[is_instrumented].answer(request)


class _Warm:
    """A process that has imported the user's modules; each request is performed by a fork of it."""

    def __init__(self, app_name: str, is_instrumented: bool) -> None:
        asking, to_ask = os.pipe()
        answered, answering = os.pipe()
        if os.fork() == 0:
            os.close(to_ask)
            os.close(answered)
            try:
                _serve_warm(app_name, is_instrumented, asking, answering)
            finally:
                os._exit(0)
        os.close(asking)
        os.close(answering)
        self._requests = os.fdopen(to_ask, "w", encoding="utf-8")
        self._answers = os.fdopen(answered, "r", encoding="utf-8")

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        line = self._answers.readline()
        if not line:
            return {"lost": "died while the user's modules were imported"}
        document: dict[str, Any] = json.loads(line)
        return document


def _serve_warm(app_name: str, is_instrumented: bool, asking: int, answering: int) -> None:
    loaded = _load(app_name, is_instrumented)
    with os.fdopen(asking, "r", encoding="utf-8") as requests, os.fdopen(answering, "w", encoding="utf-8") as answers:
        for line in requests:
            request = json.loads(line)
            answer = in_a_fork(lambda request=request: observe(app_name, loaded, request), request["timeout_s"])  # type: ignore[misc]
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def in_a_fork(perform: Callable[[], Mapping[str, Any]], timeout_s: float) -> Mapping[str, Any]:
    """What ``perform`` gives in a process that ends with it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            answer = json.dumps(perform()).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    answer = _read(reading, timeout_s)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, ended = os.waitpid(pid, 0)
    if not answer:
        signal_number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
        return {"lost": f"was killed by signal {signal_number}" if signal_number else f"ended with status {ended >> 8}"}
    document: dict[str, Any] = json.loads(answer)
    return document


def _read(descriptor: int, timeout_s: float) -> bytes:
    """Everything that comes until the other end is closed; b"" if that takes too long."""
    parts: list[bytes] = []
    deadline_s = monotonic_s() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline_s - monotonic_s())):
                parts = []
                break
            part = os.read(descriptor, 1 << 16)
            if not part:
                break
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


# --- in the fork ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """The user's app, imported, or why it could not be."""

    tasks: CeleryTasks | None
    observer: Observer | None
    error: AosError | None = None


def _load(app_name: str, is_instrumented: bool, arrange: Mapping[str, Any] | None = None) -> _Loaded:
    observer = Observer() if is_instrumented else None
    if observer is not None:
        if arrange is not None:
            observer.arrange(disturb=arrange["disturb"], freeze=arrange["freeze"], shake=arrange["shake"])
        instrumenting.install(observer.hooks())
    try:
        with harmless():
            return _Loaded(tasks=CeleryTasks(load_app(app_name)), observer=observer)
    except AosError as error:
        return _Loaded(tasks=None, observer=observer, error=error)


def observe(app_name: str, loaded: _Loaded | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Perform what is asked for under its control, and tell what came out and what was seen."""
    control = request["control"]
    if loaded is None:
        _arrange(control)
        loaded = _load(app_name, control["instrument"], control)
    tasks, observer = loaded.tasks, loaded.observer
    if tasks is None:
        return {"error": loaded.error.as_json() if loaded.error else None}
    if observer is not None:
        observer.arrange(disturb=control["disturb"], freeze=control["freeze"], shake=control["shake"])
    performance = _Performance(tasks, tuple(request["volatile"]), control, observer)
    performed: list[Any] = []
    names: set[str] = set()
    for document in request["documents"]:
        try:
            recording = Recording.from_json(document)
            names |= {step.task for step in recording.steps}
            performed.append(performance.perform(recording))
        except AosError as error:
            performed.append({"error": error.as_json()})
    return {
        "performed": performed,
        "sites": [seen.as_json() for seen in observer.sources()] if observer else [],
        "threads": observer.threads_started if observer else False,
        "code": {name: fingerprints.fingerprint(tasks.app.tasks.get(name)) for name in sorted(names)},
        **performance.seen(),
    }


def _arrange(control: Mapping[str, Any]) -> None:
    """Make the surroundings what they are to be."""
    os.environ.update(control["environment"])
    if control["time_zone"]:
        os.environ["TZ"] = control["time_zone"]
        time.tzset()
    if control["folder"]:
        os.chdir(control["folder"])
    if control["host"]:
        import platform
        import socket

        name = control["host"]
        socket.gethostname = lambda: name
        socket.getfqdn = lambda *_: name
        platform.node = lambda: name


class _Performance:
    """Performs recordings under one control."""

    def __init__(
        self, tasks: CeleryTasks, volatile: tuple[str, ...], control: Mapping[str, Any], observer: Observer | None
    ) -> None:
        self._tasks = tasks
        self._volatile = volatile
        self._control = control
        self._observer = observer
        self._trace = tracing.Trace() if control["trace"] else None
        self._changed: set[state.Name] = set()

    def perform(self, recording: Recording) -> list[list[dict[str, Any]]]:
        """One list of steps per pass."""
        if self._control["run_seed"] is not None:
            recording = replace(recording, seed=self._control["run_seed"])
        addresses = self._control["addresses"] or tuple(step.address for step in recording.steps)
        if self._control["shuffle"] is not None:
            addresses = shuffled(tuple(addresses), self._control["shuffle"])
        return [list(self._one_pass(recording, addresses)) for _ in range(self._control["passes"])]

    def _one_pass(self, recording: Recording, addresses: Iterable[str]) -> Iterable[dict[str, Any]]:
        if not addresses:
            return
        *others, last = addresses
        looks = self._trace is not None or self._control["disturb_state"]
        before = state.snapshot() if looks else {}
        for address in others:
            yield self._step(recording, address)
        if not looks:
            yield self._step(recording, last)
            return
        if self._control["disturb_state"]:
            self._step(recording, last)
            after = state.snapshot()
            state.disturb_state({name for name in after if before.get(name) != after[name]})
        with self._trace.running() if self._trace else nullcontext():
            yield self._step(recording, last)
        after = state.snapshot()
        self._changed |= {name for name in after if before.get(name) != after[name]}

    def _step(self, recording: Recording, address: str) -> dict[str, Any]:
        if self._observer is not None:
            self._observer.begin(address)
        return _told(reperform(recording, address, self._tasks, volatile=self._volatile, all_threads=True))

    def seen(self) -> dict[str, Any]:
        trace = self._trace
        if trace is None:
            return {}
        return {
            "state": sorted(map(list, self._changed)),
            "state_location": tracing.line_of_state(trace.lines, self._changed),
            "shared_location": tracing.line_that_shares(trace.thread_lines),
            "lines": [list(line) for line in trace.lines],
            "events": trace.events,
        }


def _told(answer: Reperformed) -> dict[str, Any]:
    return {
        "address": answer.address,
        "output": answer.output,
        "failure": {"raised": answer.failure.type, "message": answer.failure.message} if answer.failure else None,
        "is_served": answer.is_served,
        "breaches": [{"cause": b.cause, "what": b.what, "location": b.location} for b in answer.breaches],
        "volatile": list(answer.volatile),
    }


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
