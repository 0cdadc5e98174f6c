"""What happens in the demo, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aos_workflow import reading
from aos_workflow.cli.demo.claims import Aftermath, Claim, Look, aftermath, other_result, replayed, same_result
from aos_workflow.cli.demo.show import Narrator
from aos_workflow.cli.demo.stage import (
    Child,
    Stage,
    data_being_written,
    find_checkout,
    open_stage,
    private_directory,
)
from aos_workflow.clock import monotonic_s
from aos_workflow.database import in_our_words
from aos_workflow.golden import golden_name
from aos_workflow.records import AttemptState, Run, RunResult

#: How long nothing may happen before the demo gives up, seconds: a bound for slow machines, not an expectation.
PATIENCE_S = 120.0
POLL_S = 0.02
#: The share of steps that is committed when the worker is killed.
KILL_AT = 0.4
PROCESSES = 2
#: What the processes that replay find different.
ELSEWHERE = (
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu"},
    {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns"},
    {"PYTHONHASHSEED": "3", "TZ": "Pacific/Kiritimati"},
)
#: Past this many seconds the machine is a slow one, and the last run, with another seed, is left out.
TIME_FOR_MORE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """What is performed: ``rows`` lines of data in ``parts`` files, by runs with ``seed``."""

    rows: int
    parts: int
    seed: int

    @property
    def steps(self) -> int:
        return 4 * self.parts + 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All figures of one performance.

    ``seconds``: when the data was there, the worker killed, its run ended by the other, all compared, and all
    cleaned up, counted from the start. ``other_seed`` is None on a slow machine, ``directory`` unless it was kept.
    """

    play: Play
    facts: Aftermath
    claims: tuple[Claim, ...]
    interrupted: RunResult
    undisturbed: RunResult
    other_seed: RunResult | None
    golden: str
    seconds: dict[str, float]
    directory: str | None

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """One JSON document; lists of addresses are in plan order."""
        facts = {name: value for name, value in asdict(self.facts).items() if name != "claims"}
        runs = {"interrupted": self.interrupted, "undisturbed": self.undisturbed, "other_seed": self.other_seed}
        return {
            "holds": self.holds,
            "claims": [claim.as_json() for claim in self.claims],
            "play": asdict(self.play),
            "kill": facts,
            "runs": {
                name: {"id": run.run_id, "status": run.status.value, "hash": run.workflow_hash, "output": run.output}
                for name, run in runs.items()
                if run is not None
            },
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "golden": self.golden,
            "directory": self.directory,
        }


def perform(play: Play, say: Narrator, *, keep: bool) -> Outcome:
    """The whole demo, from an empty directory to the last comparison. Raises DemoFailed, EmbeddedUnavailable."""
    checkout = find_checkout()
    seconds: dict[str, float] = {}
    say.act("PostgreSQL and Valkey, real ones out of wheels")
    with (
        private_directory(keep=keep) as directory,
        data_being_written(directory / "trips", checkout, rows=play.rows, parts=play.parts) as generator,
        open_stage(directory, checkout) as stage,
    ):
        cast = Performance(stage=stage, play=play, say=say)
        cast.introduce(keep=keep)
        cast.await_data(generator)
        seconds["prepared"] = say.seconds

        run_id, killed = cast.crash()
        seconds["killed"] = say.seconds
        worker, facts = cast.resume(run_id, killed)
        seconds["resumed"] = say.seconds

        interrupted = stage.parts.engine.result(run_id)
        undisturbed, report = cast.undisturbed(worker)
        same = same_result(interrupted, undisturbed)
        say.claims(same)
        golden, replays = cast.replay(interrupted, worker)
        say.claims([replays])
        seconds["replayed"] = say.seconds
        other_seed = cast.other_seed(worker) if say.seconds < TIME_FOR_MORE_S else None
        differs = [other_result(interrupted, other_seed)] if other_seed else []
        say.claims(differs)
        seconds["compared"] = say.seconds
        say.act("What it was all for: the report, which begins like this")
        say.excerpt(report)
    return Outcome(
        play=play,
        facts=facts,
        claims=(*facts.claims, *same, replays, *differs),
        interrupted=interrupted,
        undisturbed=undisturbed,
        other_seed=other_seed,
        seconds={**seconds, "all": say.seconds},
        golden=golden.name,
        directory=str(directory) if keep else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Performance:
    """The acts. Each tells what it does, and raises DemoFailed when nothing happens for PATIENCE_S."""

    stage: Stage
    play: Play
    say: Narrator

    def introduce(self, *, keep: bool) -> None:
        ports = f"PostgreSQL (durable) on port {self.stage.postgres.port}, Valkey on port {self.stage.valkey.port}"
        self.say.line(f"{ports}, 127.0.0.1 only")
        fate = "stays" if keep else "is removed at the end"
        self.say.line(f"in {self.stage.directory}, which {fate}; what you have configured is not used")

    def await_data(self, generator: Child) -> None:
        """Until the generator, which began before the servers did, has written everything."""
        self.say.act(f"The data: a year of bicycle hires, {self.play.rows:,} lines in {self.play.parts} files")
        patience = Patience()
        with self.say.bar("files written", self.play.parts) as show:
            while generator.returncode is None:
                written = len(list(self._data.glob("part-*.csv")))
                show(written)
                if patience.is_over(written):
                    raise generator.failure(f"no file was written for {PATIENCE_S:g} s")
                time.sleep(POLL_S)
            if generator.returncode:
                raise generator.failure("the data could not be written")
            show(self.play.parts)

    def crash(self) -> tuple[str, Look]:
        """Start a run and kill its worker in the middle; returns the run's id and what was left behind."""
        self.say.act(f"Worker 1 performs the workflow 'trips': {self.play.steps} steps, on {PROCESSES} processes")
        self.say.line(f"read_manifest | {self.play.parts} x (check | learn | clean | add_up) | combine | write_report")
        worker = self.stage.start_worker(1, processes=PROCESSES)
        run_id = self.enqueue(self.play.seed)

        def is_the_moment(run: Run) -> bool:
            return run.done.bit_count() >= KILL_AT * run.size and bool(in_flight(self.look(run_id)))

        self.follow(run_id, worker, until=is_the_moment)
        worker.kill()
        self.say.act(f"kill -9 for worker 1 (pid {worker.pid}) and its processes, in the middle of their work")
        left = self.look(run_id)
        if left.run.status.is_terminal:
            raise worker.failure("the run ended before its worker could be killed (give it more --rows)")
        self._tell_what_is_left(left)
        return run_id, left

    def resume(self, run_id: str, killed: Look) -> tuple[Child, Aftermath]:
        """Let another worker go on; returns it, and what the database says about the whole."""
        self.say.act("Worker 2 starts; all it has is the database")
        began_at = self.stage.parts.store.time()
        worker = self.stage.start_worker(2, processes=PROCESSES)
        self.follow(run_id, worker)
        facts = aftermath(killed, self.look(run_id), second_worker_at=began_at)
        if facts.resumed_after_s is not None:
            self.say.line(f"its first step began {facts.resumed_after_s:.1f} s after its start")
        self.say.act("What the tables 'attempts' and 'checkpoints' say about that")
        self.say.claims(facts.claims)
        return worker, facts

    def undisturbed(self, worker: Child) -> tuple[RunResult, str]:
        """The same run again; returns its result and the report it wrote."""
        self.say.act("The same run again, with nobody killed")
        result = self.run(self.play.seed, worker)
        return result, self._report.read_text(encoding="utf-8") if self._report.exists() else ""

    def replay(self, run: RunResult, worker: Child) -> tuple[Path, Claim]:
        """Wait for the golden of a run, and perform it again where everything around it is different."""
        parts = self.stage.parts
        golden = parts.settings.golden_dir / golden_name(run.workflow, run.run_id)
        self.say.act("The run that was killed has left a golden: its recording, signed and on disk")
        patience = Patience()
        while not golden.exists():
            if patience.is_over(None):
                raise worker.failure(f"no golden was written for {PATIENCE_S:g} s")
            time.sleep(POLL_S)
        self.say.line(f"{golden.name}, {golden.stat().st_size:,} bytes")
        self.say.line(
            f"{len(ELSEWHERE)} replays, each in a process without database, broker and network; different are:"
        )
        self.say.line("hash seed, time zone, working folder, order of siblings")
        targets = parts.loader.targets([str(golden)])

        def elsewhere(number: int) -> dict[str, Any]:
            crew = parts.crew(processes=1, changes=ELSEWHERE[number], cwd=self.stage.directory, shuffle=number)
            ((_, answer),) = crew.replay(targets)
            return answer

        answers: list[dict[str, Any]] = []
        with self.say.bar("replays", len(ELSEWHERE)) as show, ThreadPoolExecutor(PROCESSES) as side_by_side:
            for answer in side_by_side.map(elsewhere, range(len(ELSEWHERE))):
                answers.append(answer)
                show(len(answers))
        return golden, replayed(answers)

    def other_seed(self, worker: Child) -> RunResult:
        seed = self.play.seed + 1
        self.say.act(f"And once more with seed {seed} in place of {self.play.seed}: another sample is drawn")
        return self.run(seed, worker)

    def run(self, seed: int, worker: Child) -> RunResult:
        """A run from its beginning to its end."""
        run_id = self.enqueue(seed)
        self.follow(run_id, worker)
        return self.stage.parts.engine.result(run_id)

    def enqueue(self, seed: int) -> str:
        inputs = {"data_dir": str(self._data), "parts": self.play.parts, "report_path": str(self._report)}
        return self.stage.parts.engine.enqueue("trips", inputs, seed=seed).id

    def follow(self, run_id: str, worker: Child, *, until: Callable[[Run], bool] = lambda run: False) -> None:
        """Show the run's progress until it is where it should be, or has ended."""
        store = self.stage.parts.store
        run = store.run(run_id)
        patience = Patience()
        with self.say.bar("steps committed", run.size) as show:
            show(run.done.bit_count())
            while run.status.is_live and not until(run):
                if worker.returncode is not None:
                    raise worker.failure("the worker should be at work and is not")
                if patience.is_over(run.done):
                    raise worker.failure(f"no step was committed for {PATIENCE_S:g} s")
                time.sleep(POLL_S)
                run = store.run(run_id)
                show(run.done.bit_count())

    def look(self, run_id: str) -> Look:
        """The run as the database shows it now."""
        store = self.stage.parts.store
        with in_our_words(), store.engine.connect() as connection:
            return Look(
                run=reading.run(connection, run_id),
                attempts=tuple(reading.attempts_of(connection, run_id)),
                checkpoints=tuple(reading.checkpoints_of(connection, run_id)),
            )

    def _tell_what_is_left(self, left: Look) -> None:
        running = in_flight(left)
        self.say.line(f"committed    {len(left.checkpoints)} of {left.run.size} steps")
        self.say.line(f"in flight    {', '.join(running) or 'none'}", "yellow")
        self.say.line(f"not begun    {left.run.size - len(left.checkpoints) - len(running)}")

    @property
    def _data(self) -> Path:
        return self.stage.directory / "trips"

    @property
    def _report(self) -> Path:
        return self.stage.directory / "report.md"


class Patience:
    """Is over when the same sight was shown to it for PATIENCE_S."""

    def __init__(self) -> None:
        self._seen: object = None
        self._until_s = monotonic_s() + PATIENCE_S

    def is_over(self, sight: object) -> bool:
        if sight != self._seen:
            self._seen, self._until_s = sight, monotonic_s() + PATIENCE_S
        return monotonic_s() > self._until_s


def in_flight(seen: Look) -> list[str]:
    """The steps a worker is on."""
    done = {checkpoint.address for checkpoint in seen.checkpoints}
    running = [attempt.address for attempt in seen.attempts if attempt.state is AttemptState.RUNNING]
    return [address for address in running if address not in done]


def sum_up(outcome: Outcome, say: Narrator) -> None:
    """The figures in a table, and what to do next."""
    facts = outcome.facts
    again = set(facts.committed) & set(facts.repeated)
    resumed = facts.resumed_after_s
    rows: Sequence[tuple[str, str]] = (
        ("steps", str(facts.steps)),
        ("committed before the kill", f"{len(facts.committed)}, of which {len(again)} ran again"),
        ("in flight, so repeated", ", ".join(facts.repeated) or "none"),
        ("resumed", "-" if resumed is None else f"{resumed:.1f} s after the start of the new worker"),
        ("hash, killed and resumed", str(outcome.interrupted.workflow_hash)),
        ("hash, undisturbed", str(outcome.undisturbed.workflow_hash)),
        ("golden", outcome.golden),
        ("hash, another seed", str(outcome.other_seed.workflow_hash) if outcome.other_seed else "left out, for time"),
        ("all in all", f"{outcome.seconds['all']:.0f} s"),
    )
    say.table(rows)
    if outcome.directory:
        say.line(f"kept: {outcome.directory}")
    if outcome.holds:
        say.act("All of it holds. What next:")
        say.line("aos dev                     servers, worker and beat for workflows of your own, in one command")
        say.line("examples/trips/README.md    what was performed here, and how it is written")
        say.line("docs/                       tutorial, how-to, reference")
