"""``aos demo``: a worker is killed in the middle of its work, another one goes on, and nothing is lost.

The job is ``examples/trips``, on embedded PostgreSQL and Valkey whatever is configured. What is claimed at the
end is read from the database, decided by ``demo_claims.aftermath`` and true, or the exit status is 1.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from aos_workflow import reading
from aos_workflow.cli.demo_claims import Aftermath, Claim, Look, aftermath, other_result, same_result
from aos_workflow.cli.demo_show import Narrator, standard_stream
from aos_workflow.cli.demo_stage import (
    Child,
    DemoFailed,
    Stage,
    data_being_written,
    find_checkout,
    open_stage,
    private_directory,
)
from aos_workflow.clock import monotonic_s
from aos_workflow.database import in_our_words
from aos_workflow.records import AttemptState, Run, RunResult

#: How long nothing may happen before the demo gives up, seconds: a bound for slow machines, not an expectation.
PATIENCE_S = 120.0
POLL_S = 0.02
KILL_AT = 0.4
PROCESSES = 2


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
    """All figures of one performance. Times in seconds; ``directory`` is None unless it was kept."""

    play: Play
    facts: Aftermath
    claims: tuple[Claim, ...]
    interrupted: RunResult
    undisturbed: RunResult
    other_seed: RunResult
    seconds: dict[str, float]
    directory: str | None

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """One JSON document; addresses are lists of steps in plan order."""
        facts = asdict(self.facts)
        facts.pop("claims")
        runs = {"interrupted": self.interrupted, "undisturbed": self.undisturbed, "other_seed": self.other_seed}
        return {
            "holds": self.holds,
            "claims": [claim.as_json() for claim in self.claims],
            "play": asdict(self.play),
            "kill": facts,
            "runs": {
                name: {"id": run.run_id, "status": run.status.value, "hash": run.workflow_hash, "output": run.output}
                for name, run in runs.items()
            },
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "directory": self.directory,
        }


@click.command(short_help="Kill a worker in the middle of a job and see that nothing is lost.")
@click.option("--rows", type=click.IntRange(1_000), default=200_000, show_default=True, help="Lines of data to work on.")
@click.option("--parts", type=click.IntRange(2, 99), default=24, show_default=True, help="Files they are spread over.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the runs.")
@click.option("--keep", is_flag=True, help="Keep the directory with data, report, logs and database.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all figures.")
def demo(rows: int, parts: int, seed: int, keep: bool, as_json: bool) -> None:
    """Kill a worker in the middle of a real job and see that nothing is lost.

    Needs nothing: PostgreSQL and Valkey are started for the occasion, in a private directory that is removed
    at the end. Your own settings, database and broker are not used. Takes less than a minute.
    """
    if rows < 50 * parts:
        raise click.BadParameter(f"{rows} lines are too few for {parts} files; ask for at least {50 * parts}")
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda received, _frame: sys.exit(128 + received))  # so that everything is cleaned up
    say = Narrator(standard_stream(as_json=as_json))
    try:
        outcome = perform(Play(rows=rows, parts=parts, seed=seed), say, keep=keep)
    except DemoFailed as failure:
        for line in failure.tail:
            click.echo(f"  | {line}", err=True)
        raise
    if as_json:
        click.echo(json.dumps(outcome.as_json(), indent=2, sort_keys=True))
    if not outcome.holds:
        broken = ", ".join(claim.name for claim in outcome.claims if not claim.holds)
        click.echo(f"aos demo: not everything that was claimed is true: {broken}", err=True)
        sys.exit(1)


def perform(play: Play, say: Narrator, *, keep: bool) -> Outcome:
    """The whole demo, from an empty directory to the comparison. Raises DemoFailed, EmbeddedUnavailable."""
    checkout = find_checkout()
    seconds: dict[str, float] = {}
    with contextlib.ExitStack() as exits:
        directory = exits.enter_context(private_directory(keep=keep))
        data = directory / "trips"
        generator = exits.enter_context(data_being_written(data, checkout, rows=play.rows, parts=play.parts))
        say.act("PostgreSQL and Valkey, real ones out of wheels")
        stage = exits.enter_context(open_stage(directory, checkout))
        _introduce(stage, say, keep=keep)
        say.act(f"The data: a year of bicycle hires, {play.rows:,} lines in {play.parts} files, with their dirt")
        _await_data(generator, data, play, say)
        seconds["prepared"] = say.seconds

        say.act(f"Worker 1 performs the workflow 'trips': {play.steps} steps on {PROCESSES} processes")
        say.line(f"read_manifest | {play.parts} x (check | learn | clean | add_up) | combine | write_report", "dim")
        first = stage.start_worker(1, processes=PROCESSES)
        run_id = _enqueue(stage, play, seed=play.seed)
        killed = _kill_in_the_middle(stage, first, run_id, say)
        seconds["killed"] = say.seconds

        say.act("Worker 2 starts; all it has is the database")
        second_worker_at = stage.parts.store.time()
        second = stage.start_worker(2, processes=PROCESSES)
        _follow(stage, run_id, second, say)
        facts = aftermath(killed, look(stage, run_id), second_worker_at=second_worker_at)
        seconds["resumed"] = say.seconds
        say.line(_resumption(facts))

        say.act("What the tables 'attempts' and 'checkpoints' say about it")
        interrupted = stage.parts.engine.result(run_id)
        _tell(facts.claims, say)

        say.act("The same run again, and nobody is killed")
        undisturbed = _run_to_its_end(stage, play, second, say, seed=play.seed)
        same = same_result(interrupted, undisturbed)
        _tell(same, say)
        report = report_of(stage)
        shown = report.read_text(encoding="utf-8") if report.exists() else ""

        say.act(f"And once more with seed {play.seed + 1} in place of {play.seed}")
        other_seed = _run_to_its_end(stage, play, second, say, seed=play.seed + 1)
        differs = other_result(interrupted, other_seed)
        _tell([differs], say)
        seconds["compared"] = say.seconds

        say.act("What it was all for: the report begins like this")
        say.excerpt(shown)
        outcome = Outcome(
            play=play,
            facts=facts,
            claims=(*facts.claims, *same, differs),
            interrupted=interrupted,
            undisturbed=undisturbed,
            other_seed=other_seed,
            seconds=seconds,
            directory=str(directory) if keep else None,
        )
    seconds["all"] = say.seconds
    _sum_up(outcome, say)
    return outcome


def look(stage: Stage, run_id: str) -> Look:
    """The run as the database shows it now."""
    store = stage.parts.store
    with in_our_words(), store.engine.connect() as connection:
        return Look(
            at=store.now(connection),
            run=reading.run(connection, run_id),
            attempts=tuple(reading.attempts_of(connection, run_id)),
            checkpoints=tuple(reading.checkpoints_of(connection, run_id)),
        )


def report_of(stage: Stage) -> Path:
    """Where the runs write their report."""
    return stage.directory / "report.md"


def _introduce(stage: Stage, say: Narrator, *, keep: bool) -> None:
    say.line(f"PostgreSQL on port {stage.postgres.port} (durable), Valkey on port {stage.valkey.port}, 127.0.0.1 only")
    say.line(f"in {stage.directory}, {'kept' if keep else 'removed'} at the end; what you have configured is not used")


def _await_data(generator: Child, data: Path, play: Play, say: Narrator) -> None:
    deadline_s = monotonic_s() + PATIENCE_S
    written = 0
    with say.bar("files written", play.parts) as show:
        while generator.returncode is None:
            before, written = written, len(list(data.glob("part-*.csv")))
            if written > before:
                deadline_s = monotonic_s() + PATIENCE_S
            show(written)
            if monotonic_s() > deadline_s:
                raise generator.failure(f"no file was written for {PATIENCE_S:g} s")
            time.sleep(POLL_S)
        show(len(list(data.glob("part-*.csv"))))
    if generator.returncode:
        raise generator.failure("the data could not be written")


def _enqueue(stage: Stage, play: Play, *, seed: int) -> str:
    data = stage.directory / "trips"
    inputs = {"data_dir": str(data), "parts": play.parts, "report_path": str(report_of(stage))}
    return stage.parts.engine.enqueue("trips", inputs, seed=seed).id


def _run_to_its_end(stage: Stage, play: Play, worker: Child, say: Narrator, *, seed: int) -> RunResult:
    run_id = _enqueue(stage, play, seed=seed)
    _follow(stage, run_id, worker, say)
    return stage.parts.engine.result(run_id)


def _has_ended(run: Run) -> bool:
    return run.status.is_terminal


def _follow(
    stage: Stage, run_id: str, worker: Child, say: Narrator, *, until: Callable[[Run], bool] = _has_ended
) -> Run:
    """Show the run's progress until it is where it should be, or has ended.

    Raises DemoFailed, with the end of the worker's log, if the worker ends or nothing is committed for long.
    """
    store = stage.parts.store
    run = store.run(run_id)
    deadline_s = monotonic_s() + PATIENCE_S
    with say.bar("steps committed", run.size) as show:
        show(run.done.bit_count())
        while not until(run) and run.status.is_live:
            if worker.returncode is not None:
                raise worker.failure("the worker should be at work")
            if monotonic_s() > deadline_s:
                raise worker.failure(f"no step was committed for {PATIENCE_S:g} s")
            time.sleep(POLL_S)
            before, run = run, store.run(run_id)
            if run.done != before.done:
                deadline_s = monotonic_s() + PATIENCE_S
                show(run.done.bit_count())
    return run


def _kill_in_the_middle(stage: Stage, worker: Child, run_id: str, say: Narrator) -> Look:
    """SIGKILL the worker, all its processes, while it is on a step; returns what it left behind."""

    def is_the_moment(run: Run) -> bool:
        return run.done.bit_count() >= KILL_AT * run.size and bool(_in_flight(look(stage, run_id)))

    _follow(stage, run_id, worker, say, until=is_the_moment)
    worker.kill()
    say.act(f"kill -9: worker 1 (pid {worker.pid}) is gone, with all its processes, in the middle of its work")
    left = look(stage, run_id)
    if left.run.status.is_terminal:
        raise worker.failure(f"the run {left.run.status.value} before its worker could be killed (try more --rows)")
    running = _in_flight(left)
    say.line(f"committed    {len(left.checkpoints)} of {left.run.size} steps")
    say.line(f"in flight    {', '.join(running) or 'none'}", "yellow")
    say.line(f"not begun    {left.run.size - len(left.checkpoints) - len(running)}")
    return left


def _in_flight(seen: Look) -> list[str]:
    return [attempt.address for attempt in seen.attempts if attempt.state is AttemptState.RUNNING]


def _resumption(facts: Aftermath) -> str:
    if facts.resumed_after_s is None:
        return "it had nothing left to do"
    went_on = facts.steps - len(facts.committed)
    return f"first step {facts.resumed_after_s:.1f} s after its start; it performed {went_on} steps, not {facts.steps}"


def _tell(claims: tuple[Claim, ...] | list[Claim], say: Narrator) -> None:
    for claim in claims:
        say.claim(claim)


def _sum_up(outcome: Outcome, say: Narrator) -> None:
    facts = outcome.facts
    resumed = "-" if facts.resumed_after_s is None else f"{facts.resumed_after_s:.1f} s after the new worker's start"
    rows = [
        ("steps of the workflow", str(facts.steps)),
        ("committed before the kill", f"{len(facts.committed)}, none of them ran again"),
        ("in flight, so repeated", ", ".join(facts.repeated) or "none"),
        ("resumed", resumed),
        ("hash, killed and resumed", str(outcome.interrupted.workflow_hash)),
        ("hash, undisturbed", str(outcome.undisturbed.workflow_hash)),
        ("hash, another seed", str(outcome.other_seed.workflow_hash)),
        ("all in all", f"{outcome.seconds['all']:.0f} s"),
    ]
    say.table(rows)
    if outcome.directory:
        say.line(f"kept: {outcome.directory}")
    if outcome.holds:
        say.act("Everything that was claimed holds. What next:")
        say.line("aos dev                        servers, worker and beat for your own workflows, in one command")
        say.line("examples/trips/README.md       what was performed here, and how it is written")
        say.line("docs/                          tutorial, how-to, reference")
