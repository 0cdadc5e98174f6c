"""Golden: a recording, signed and on disk. GoldenRecorder writes one JSON object per run, ``*.json``, after the run.

    schema, key_id, signature, content_sha256, recorded_at     the envelope
    run_id, workflow, seed, ... steps, workflow_hash, code     the recording (see ``recording``)
    inputs_digest, plan_digest, made_by                        to tell what was changed, and which process made it

``content_sha256`` leaves signature and key id out, so it survives a change of the key: by it the ledger knows a golden.
The file is ``json.dumps(document, indent=2)`` with the envelope first and all other objects sorted by key.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from aos_workflow import reading
from aos_workflow.atomic_files import make_folder, read_whole, sweep_leftovers, write_new
from aos_workflow.canonical import digest, parse, stable_digest
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import monotonic_s
from aos_workflow.database import in_our_words, quick
from aos_workflow.errors import (
    BadOption,
    CheckpointMissing,
    GoldenInvalid,
    GoldenNotWritten,
    GoldenUnreadable,
    NotCanonical,
    PayloadTooLarge,
    RunNotFinished,
)
from aos_workflow.faults import fault
from aos_workflow.plan import INPUT, Plan
from aos_workflow.recording import RecordedStep, Recording, recording_of
from aos_workflow.records import Checkpoint, Run, RunStatus
from aos_workflow.signing import KeyRing, signed_content
from aos_workflow.version import VERSION

SCHEMA = "aos.golden/1"
#: The largest golden that is written or read, bytes.
SIZE_LIMIT_BYTES = 256 * 1024 * 1024
#: How often a recorder looks for what killed writers left, seconds.
SWEEP_EVERY_S = 600.0

#: What ``content_sha256`` leaves out.
ENVELOPE = ("signature", "key_id", "content_sha256")
_ORDER = ("schema", "key_id", "signature", "content_sha256", "recorded_at", "run_id", "workflow", "seed",
          "logical_time", "inputs", "inputs_digest", "plan", "plan_digest", "splices", "steps", "workflow_hash",
          "made_by", "code")  # fmt: skip
_LONGEST_SLUG = 80
#: Why a run can have no golden, however often it is tried.
_HOPELESS = (CheckpointMissing, GoldenInvalid, PayloadTooLarge)

#: Task name -> what today's code says of it: "effect", "volatile" and its fingerprint ("file", "line", "source");
#: None for a task that is gone.
Facts = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden's document, as it is in its file. Nothing in it is to be believed before it is verified."""

    document: Mapping[str, Any]

    @classmethod
    def of(cls, recording: Recording, *, recorded_at: float, keys: KeyRing, made_by: Mapping[str, Any]) -> Golden:
        """A recording in its envelope, signed; raises GoldenKeyMissing."""
        document = {
            **recording.as_json(),
            "schema": SCHEMA,
            "recorded_at": recorded_at,
            "inputs_digest": digest(recording.inputs),
            "plan_digest": recording.plan.digest,
            "made_by": dict(made_by),
        }
        return cls({**document, "content_sha256": content_sha256(document)}).signed(keys)

    @classmethod
    def from_text(cls, text: str) -> Golden:
        """Read strict JSON. Raises GoldenInvalid for what is no golden, GoldenUnreadable for another version's."""
        try:
            document = parse(text)
        except NotCanonical as flaw:
            raise GoldenInvalid(f"the file is no golden: {flaw.message}", fix="see: aos golden verify") from None
        if not isinstance(document, dict) or "schema" not in document:
            raise GoldenInvalid("the file is no golden: it has no schema", fix="see: aos golden verify")
        if document["schema"] != SCHEMA:
            raise GoldenUnreadable(
                f"the golden is of schema {document['schema']!r:.60}, this code reads {SCHEMA}",
                fix="use the version of aos_workflow that wrote it",
            )
        return cls(document)

    @classmethod
    def read(cls, path: Path) -> Golden:
        """The golden in a file, not verified; raises GoldenUnreadable, GoldenInvalid."""
        try:
            data = read_whole(path, SIZE_LIMIT_BYTES)
        except OSError as error:
            raise GoldenUnreadable(f"{path} cannot be read: {error.strerror}", fix="check its rights") from None
        try:
            return cls.from_text(data.decode("ascii"))
        except UnicodeDecodeError:
            raise GoldenInvalid(f"{path} is no golden: it is not ASCII", fix="see: aos golden verify") from None

    @property
    def text(self) -> str:
        """The file's content: ``json.dumps(document, indent=2)`` in the one order of keys."""
        return rendered(self.document)

    @property
    def run_id(self) -> str:
        return str(self.document["run_id"])

    @property
    def workflow(self) -> str:
        return str(self.document["workflow"])

    @property
    def key_id(self) -> str:
        """The key it says it was signed with; only a hint."""
        return str(self.document["key_id"])

    @property
    def content_sha256(self) -> str:
        return str(self.document["content_sha256"])

    @property
    def name(self) -> str:
        """The name of its file."""
        return golden_name(self.workflow, self.run_id)

    @property
    def recording(self) -> Recording:
        """What it holds; raises GoldenUnreadable, VersionMismatch."""
        return Recording.from_json(self.document)

    def signed(self, keys: KeyRing) -> Golden:
        """The same golden under the newest key; raises GoldenKeyMissing."""
        key = keys.newest()  # asked once: the ring may change at any moment
        document = {**self.document, "key_id": key.id}
        return Golden({**document, "signature": key.sign(signed_content(document))})


def golden_name(workflow: str, run_id: str) -> str:
    """The file name of a run's golden: "<workflow>-<run id>.json", safe for every file system and shell."""
    return f"{_slug(workflow)[:_LONGEST_SLUG] or 'w'}-{_slug(run_id)}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("-")


def content_sha256(document: Mapping[str, Any]) -> str:
    """SHA-256 over everything but signature, key id and itself: what a change of the key does not change."""
    content = {name: value for name, value in document.items() if name not in ENVELOPE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def rendered(document: Mapping[str, Any]) -> str:
    """The one text of a golden's document."""
    ordered = json.loads(json.dumps(document, sort_keys=True))
    first = {name: ordered.pop(name) for name in _ORDER if name in ordered}
    return json.dumps({**first, **ordered}, indent=2)


class Ledger(Protocol):
    """Where the recorder writes down what it recorded (``goldens.ledger``)."""

    def add(self, golden: Golden) -> None:
        """Enter the golden, unless it is entered already, and mark its run, in one transaction."""

    def give_up(self, run_id: str) -> None:
        """Let nobody ask for this run's golden any more: there can be none."""


def made_here(*, hash_seed: str = "") -> dict[str, str]:
    """What the recording process is: versions, platform, hash seed, time zone."""
    return {
        "aos": VERSION,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "hash_seed": hash_seed or ("random" if sys.flags.hash_randomization else "0"),
        "tz": "/".join(time.tzname),
    }


class GoldenRecorder:
    """Writes goldens of succeeded runs into one folder.

    ``facts_of`` knows today's code (see ``Facts``); ``volatile`` are the fields that the settings leave out.
    Any number of recorders may work on one folder, and on one run: the first file stays.
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyRing,
        store: CheckpointStore,
        ledger: Ledger,
        *,
        facts_of: Facts = lambda _task: None,
        volatile: Sequence[str] = (),
        made_by: Mapping[str, Any] | None = None,
        size_limit_bytes: int = SIZE_LIMIT_BYTES,
    ) -> None:
        self.directory = directory
        self.keys = keys
        self._store = store
        self._ledger = ledger
        self._facts_of = facts_of
        self._volatile = tuple(volatile)
        self._made_by = made_by or made_here()
        self._size_limit_bytes = size_limit_bytes
        self._sweep_at_s = 0.0

    def record(self, run_id: str) -> Path:
        """Write the run's golden and enter it in the ledger; again, it only completes what a crash left open.

        Raises RunNotFound, RunNotFinished, BadOption (the run failed), GoldenInvalid (its checkpoints are not what
        was committed), GoldenKeyMissing, PayloadTooLarge, StoreUnavailable, and GoldenNotWritten for what the disk
        refuses: then nothing is left, and trying again later may work.
        """
        run = self._finished(run_id)
        self._store.want_golden(run.id)  # a file without its entry in the ledger is then one still to be entered
        path = self.directory / golden_name(run.workflow, run.id)
        try:
            golden = self._there(path, run) or self._written(path, self._made(run), run)
        except _HOPELESS:
            self._ledger.give_up(run.id)
            raise
        fault("golden_placed", path.name)
        self._ledger.add(golden)
        return path

    def _made(self, run: Run) -> Golden:
        recording = self._recording(run)
        return Golden.of(recording, recorded_at=self._store.time(), keys=self.keys, made_by=self._made_by)

    def recording(self, run_id: str) -> Recording:
        """What the run's golden would hold; raises as ``record``, and writes nothing.

        ``run_id`` may be the id's unambiguous beginning or end.
        """
        with in_our_words(), quick(self._store.engine).connect() as connection:
            run_id = reading.run_id_like(connection, run_id)
        return self._recording(self._finished(run_id))

    def _finished(self, run_id: str) -> Run:
        run = self._store.run(run_id)
        if run.status.is_live:
            raise RunNotFinished(f"run {run_id} is {run.status.value}", fix="record it when it has succeeded")
        if run.status is not RunStatus.SUCCEEDED:
            raise BadOption(f"run {run_id} {run.status.value}", fix="goldens are of runs that succeeded", run_id=run_id)
        return run

    # --- the file --------------------------------------------------------------------------

    def _there(self, path: Path, run: Run) -> Golden | None:
        """The run's golden if its file is there and right; raises GoldenNotWritten if the file is something else."""
        if not path.exists() and not path.is_symlink():
            return None
        try:
            golden = Golden.read(path)
            is_right = (
                self.keys.verify(golden.document) is not None
                and golden.content_sha256 == content_sha256(golden.document)
                and (golden.run_id, golden.document.get("workflow_hash")) == (run.id, run.workflow_hash)
            )
        except (GoldenInvalid, GoldenUnreadable, KeyError):
            is_right = False
        if not is_right:
            raise GoldenNotWritten(
                f"{path} is there and is not the golden of run {run.id}",
                fix=f"see: aos golden verify {path}; move it away, then: aos golden record {run.id}",
                path=str(path),
            )
        return golden

    def _written(self, path: Path, golden: Golden, run: Run) -> Golden:
        data = golden.text.encode("ascii")
        if len(data) > self._size_limit_bytes:
            raise PayloadTooLarge(
                f"the golden of run {run.id} is {len(data)} bytes, the limit is {self._size_limit_bytes} bytes",
                fix="pass references instead of large values from step to step",
                size_bytes=len(data),
                limit_bytes=self._size_limit_bytes,
            )
        try:
            make_folder(self.directory)
            self._sweep()
            if write_new(path, data):
                return golden
        except OSError as error:
            raise GoldenNotWritten(
                f"the golden of run {run.id} could not be written to {self.directory}: {error.strerror or error}",
                fix="make room or give rights; it is tried again",
                path=str(path),
            ) from error
        there = self._there(path, run)  # another recorder was faster
        if there is None:
            raise GoldenNotWritten(f"{path} was there and is gone", fix="it is tried again", path=str(path))
        return there

    def _sweep(self) -> None:
        if monotonic_s() >= self._sweep_at_s:
            self._sweep_at_s = monotonic_s() + SWEEP_EVERY_S
            sweep_leftovers(self.directory)

    # --- the recording ---------------------------------------------------------------------

    def _recording(self, run: Run) -> Recording:
        with in_our_words(), quick(self._store.engine).connect() as connection:
            inputs = reading.outputs(connection, run.id, [INPUT])[INPUT]
            splices = [(at, Plan.from_text(text)) for at, text in reading.splices_of(connection, run.id)]
            checkpoints = reading.checkpoints_of(connection, run.id)
            attempts = reading.attempts_of(connection, run.id)
        plan = self._store.plan(run.plan_digest)
        whole = self._store.effective_plan(run.id, run.plan_digest, run.splices)
        _require_all(whole, checkpoints, run)
        facts = {task: self._facts(task) for task in sorted({step.task for step in whole.steps})}
        recording = recording_of(
            run, inputs=inputs, plan=plan, splices=splices, checkpoints=checkpoints, attempts=attempts, facts=facts
        )
        ignored = (*self._volatile, *plan.terms.volatile)
        recording = replace(recording, steps=tuple(_with_volatile(step, ignored) for step in recording.steps))
        _require_whole(recording, run)
        return recording

    def _facts(self, task: str) -> Mapping[str, Any]:
        known = self._facts_of(task)
        facts: dict[str, Any] = dict(known) if known else {}
        if "code" in facts or "file" not in facts:
            return facts
        declared: dict[str, Any] = {name: facts.pop(name) for name in ("effect", "volatile") if name in facts}
        return {**declared, "code": facts}


def _with_volatile(step: RecordedStep, ignored: Sequence[str]) -> RecordedStep:
    """The step with those volatile fields that give the digest it was committed with: today's may be others."""
    for fields in (step.volatile, (*ignored, *step.volatile), ()):
        distinct = tuple(dict.fromkeys(fields))
        if stable_digest(step.output, distinct) == step.stable_digest:
            return replace(step, volatile=distinct)
    return step


def _require_all(plan: Plan, checkpoints: Sequence[Checkpoint], run: Run) -> None:
    """Raises CheckpointMissing unless every step has its checkpoint."""
    known = {checkpoint.address for checkpoint in checkpoints}
    for step in plan.steps:
        if step.address not in known:
            raise CheckpointMissing(
                f"run {run.id} has no checkpoint for {step.address} any more",
                fix="it was deleted; no golden can be made of this run",
                address=step.address,
            )


def _require_whole(recording: Recording, run: Run) -> None:
    """Raises GoldenInvalid if the database does not hold what was committed: that must not be signed."""
    wrong = [step.address for step in recording.steps if digest(step.output) != step.digest]
    if digest(recording.inputs) != run.inputs_digest:
        wrong.append(INPUT)
    if not wrong and recording.hash_of({s.address: s.stable_digest for s in recording.steps}) != run.workflow_hash:
        wrong.append("the workflow hash")
    if wrong:
        raise GoldenInvalid(
            f"the database does not hold what run {run.id} committed: {', '.join(wrong)}",
            fix="restore the database from a backup; nothing was signed",
            run_id=run.id,
            parts=wrong,
        )
