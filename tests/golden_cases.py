"""Goldens for tests: made by hand without a database, and recorded from runs of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aos_workflow.canonical import digest, encode, stable_digest
from aos_workflow.golden import Golden, GoldenRecorder
from aos_workflow.goldens.ledger import GoldenLedger
from aos_workflow.goldens.verdict import Finding
from aos_workflow.goldens.verify import Verifier, json_files
from aos_workflow.ids import new_run_id
from aos_workflow.plan import Plan
from aos_workflow.recording import RecordedStep, Recording
from aos_workflow.records import workflow_hash
from aos_workflow.signing import KeyRing
from tests.conformance.store_cases import Bench, line, opened_bench, sqlite_url

SECRET, NEW_SECRET, FOREIGN_SECRET = "a1" * 32, "b2" * 32, "c3" * 32
KEYS = KeyRing.of(SECRET)
#: After a rotation: the new key signs, the old one still verifies.
ROTATED = KeyRing.of(NEW_SECRET, [SECRET])
RECORDED_AT = 1_700_000_000.5
MADE_BY = {"aos": "0", "python": "3", "platform": "Test", "hash_seed": "0", "tz": "UTC"}


def value_of(address: str) -> dict[str, Any]:
    """What a step of these tests returns: a bit of everything JSON has."""
    return {"of": address, "score": 0.1, "note": 'a "quote", a \\ and é', "items": [1, None, True, {"k": []}], "ms": 12}


def recording(
    *, run_id: str = "", workflow: str = "triage", seed: int = 7, size: int = 2, volatile: Sequence[str] = ("ms",)
) -> Recording:
    """A run of a chain of so many steps."""
    plan, inputs = line(size), encode({"x": 1})
    steps = tuple(_step(step.address, tuple(volatile)) for step in plan.steps)
    return Recording(
        run_id=run_id or new_run_id(),
        workflow=workflow,
        seed=seed,
        logical_time=1_700_000_000.0,
        inputs=inputs,
        plan=plan,
        splices=(),
        steps=steps,
        workflow_hash=workflow_hash(
            workflow=workflow,
            inputs_digest=digest(inputs),
            seed=seed,
            digests={step.address: step.stable_digest for step in steps},
        ),
        code={"t": {"file": "t.py", "line": 3, "source": ["deadbeef"]}},
    )


def _step(address: str, volatile: tuple[str, ...]) -> RecordedStep:
    output = encode(value_of(address))
    return RecordedStep(
        address=address,
        task="t",
        output=output,
        digest=digest(output),
        stable_digest=stable_digest(output, volatile),
        effects=encode({"effects": {"price": 3}}),
        volatile=volatile,
    )


def golden(keys: KeyRing = KEYS, **changes: Any) -> Golden:
    """A signed golden that no database knows."""
    return Golden.of(recording(**changes), recorded_at=RECORDED_AT, keys=keys, made_by=MADE_BY)


def written(folder: Path, one: Golden, *, name: str = "") -> Path:
    """The file of a golden, written plainly."""
    path = folder / (name or one.name)
    path.write_text(one.text)
    return path


def forged(document: dict[str, Any], keys: KeyRing = KEYS) -> str:
    """The text of a document signed anew, as whoever has the key can."""
    return json.dumps({**document, "signature": keys.sign(document)}, indent=2)


@dataclass
class Home:
    """A folder that goldens are recorded to, and the store that knows of them."""

    bench: Bench
    folder: Path
    keys: KeyRing = KEYS

    def __post_init__(self) -> None:
        self.ledger = GoldenLedger(self.bench.store)

    @property
    def recorder(self) -> GoldenRecorder:
        return GoldenRecorder(self.folder, self.keys, self.bench.store, self.ledger)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.keys, ledger=self.ledger, home=self.folder)

    def run(self, *, plan: Plan | None = None, value: Any = None, **changes: Any) -> str:
        """The id of a run that has succeeded and whose golden is wanted."""
        plan = plan or line(2)
        worker = self.bench.worker()
        run_id = self.bench.run(plan, **{"inputs": {"x": 1}, "golden": True, **changes})
        run = self.bench.store.run(run_id)
        digests: dict[str, str] = {}
        for step in plan.steps:
            granted = self.bench.granted(run_id, step.address, worker=worker)
            commit = self.bench.commit_of(
                run_id, plan, step.address, granted.attempt, value=value or value_of(step.address)
            )
            digests[step.address] = commit.stable_digest
            if len(digests) == len(plan.steps):
                proof = workflow_hash(
                    workflow=run.workflow, inputs_digest=run.inputs_digest, seed=run.seed, digests=digests
                )
                commit = self.bench.commit_of(
                    run_id,
                    plan,
                    step.address,
                    granted.attempt,
                    value=value or value_of(step.address),
                    workflow_hash=proof,
                )
            self.bench.store.commit(commit)
        return run_id

    def recorded(self, count: int = 1) -> list[Path]:
        """The goldens of so many new runs."""
        return [self.recorder.record(self.run()) for _ in range(count)]

    def verdicts(self) -> dict[str, str]:
        """Name -> verdict of everything in the folder that is not valid, and of what is missing."""
        return {Path(f.path).name: f.verdict.value for f in self.findings() if not f.is_valid}

    def findings(self) -> tuple[Finding, ...]:
        return self.verifier.folder(self.folder).findings

    def names(self) -> list[str]:
        return [path.name for path in json_files(self.folder)]

    def ops(self) -> list[str]:
        """What the ledger says happened, in order."""
        return [entry.op.value for entry in self.ledger.entries()]


@contextmanager
def opened_home(folder: Path, *, url: str = "", **options: Any) -> Iterator[Home]:
    """A home in a new folder, over SQLite unless a database is named."""
    with opened_bench(url or sqlite_url(folder), **options) as bench:
        yield Home(bench, folder / "golden")
