"""Causes: what was observed -> why a step gave another answer, and where. Pure; no I/O.

``decide`` reads from the certain to the probable: what was refused, what tells only about the performance, what
moves by itself, what somebody changed, and last what the two values look like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aos_workflow.determinism.lint.catalogue import words
from aos_workflow.divergence import Cause, Divergence, differences
from aos_workflow.journal import Breach


@dataclass(frozen=True, kw_only=True, slots=True)
class Clue:
    """A call site through which something came into the step.

    moves       its values are others in another process under the same circumstances
    influence   "path": disturbing it changes the divergent value; "output": another one; "failure": the step fails;
                "": nothing happens
    is_newer    of a file: it was changed after the recording
    is_runs     of a seed: it comes from the run's, anew each time
    mentions    the names in its line
    """

    location: str
    name: str
    cause: Cause
    family: str
    order: int
    moves: bool = False
    influence: str = ""
    is_newer: bool = False
    is_runs: bool = False
    mentions: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """What is known about a divergence.

    recorded, observed   the step's whole output, as JSON; observed is None when it raised
    varies        the divergent value is not the same in every performance here, though nothing was changed
    varies_with   the surroundings that change it, by their names in ``controls``
    is_explained  with all known sources frozen, two performances agree
    clues         in the order in which they came in
    changes       what of the step's code is not what it was: (name, location)
    """

    divergence: Divergence
    recorded: Any
    observed: Any
    varies: bool = False
    varies_with: frozenset[str] = frozenset()
    is_explained: bool = True
    refusals: tuple[Breach, ...] = ()
    clues: tuple[Clue, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()
    state_matters: bool = False
    state_may_matter: bool = False
    state_location: str | None = None
    uses_threads: bool = False
    race_location: str | None = None
    run_seed_matters: bool = False
    field_location: str | None = None
    parting: str | None = None
    volatile: tuple[str, ...] = ()

    @property
    def influences(self) -> tuple[Clue, ...]:
        """The clues that change the divergent value; else those that change anything."""
        for strength in ("path", "output", "failure"):
            found = tuple(clue for clue in self.clues if clue.influence == strength)
            if found:
                return found
        return ()


Found = tuple[Cause, str | None]


def decide(seen: Observations) -> Found:
    """The cause of the divergence, and where it is in the user's code."""
    return (
        _it_was_refused(seen)
        or _it_tells_about_the_performance(seen)
        or (_it_moves_by_itself(seen) if seen.varies else None)
        or _the_surroundings_moved_it(seen)
        or _the_seed_is_another(seen)
        or _the_code_changed(seen)
        or _it_depends_on_what_was_before(seen)
        or _something_outside_changed(seen)
        or _it_may_depend_on_what_was_before(seen)
        or _threads_race(seen)
        or _it_looks_like(seen)
        or _it_is_the_only_one(seen)
        or (Cause.UNKNOWN, seen.parting)
    )


# --- the steps of the decision ----------------------------------------------------------------


def _it_was_refused(seen: Observations) -> Found | None:
    """The replay refused what the step wanted from outside, and that is why it gave something else."""
    if seen.varies and any(clue.moves and clue.influence == "path" for clue in seen.clues):
        return None  # what was refused was perhaps a log file
    for breach in seen.refusals:
        if breach.cause == Cause.CODE_CHANGE:
            continue  # it asked more often than when it was recorded: an effect, not a cause
        if breach.what.startswith("sqlite3.connect"):
            return Cause.EXTERNAL_CALL, breach.location
        return Cause(breach.cause), breach.location
    return None


def _it_tells_about_the_performance(seen: Observations) -> Found | None:
    """Only fields differ that tell about the performance, such as a duration, beside an equal answer."""
    if seen.observed is None or not _only_telling_fields(seen.recorded, seen.observed):
        return None
    movers = [clue for clue in seen.influences if clue.moves] or list(seen.influences)
    if not movers and not seen.varies:
        return None
    return Cause.VOLATILE_FIELD, movers[-1].location if movers else seen.field_location or seen.parting


def _it_moves_by_itself(seen: Observations) -> Found | None:
    """The value is another one each time: clock, chance, order, identity, threads."""
    races = seen.uses_threads and not seen.is_explained
    movers = [clue for clue in seen.influences if clue.moves and clue.family not in ("thread", "start")]
    if races or (seen.uses_threads and not movers):
        return _threads_race(seen)
    seeds = [clue for clue in movers if clue.family == "seed" and not clue.is_runs]
    if seeds:
        return Cause.SEED_MISMATCH, seeds[0].location
    if movers:
        return movers[0].cause, movers[0].location
    if seen.state_matters:
        return Cause.PROCESS_STATE, seen.state_location or seen.parting
    movers = [clue for clue in seen.clues if clue.moves and clue.family in ("value", "chance", "order")]
    return (movers[0].cause, movers[0].location) if movers else _it_looks_like(seen)


def _the_surroundings_moved_it(seen: Observations) -> Found | None:
    """Nothing was changed but the surroundings, and the value followed."""
    if not seen.varies_with or seen.varies:
        return None
    there = [clue for clue in seen.influences if clue.cause is Cause.ENVIRONMENT]
    seeds = _foreign_seeds(seen)
    if seeds:
        return Cause.SEED_MISMATCH, seeds[0].location
    if there:
        return Cause.ENVIRONMENT, there[0].location
    movable = [clue for clue in seen.influences if clue.family in ("order", "value", "chance")]
    if movable:  # other surroundings are other addresses and another size of everything
        return movable[0].cause, movable[0].location
    return Cause.ENVIRONMENT, seen.parting


def _the_seed_is_another(seen: Observations) -> Found | None:
    """A generator was seeded with something else than the run's seed."""
    for seed in _foreign_seeds(seen):
        if not seen.changes or any(_concerns(change, seed) for change in seen.changes):
            return Cause.SEED_MISMATCH, seed.location
    return None


def _foreign_seeds(seen: Observations) -> list[Clue]:
    return [clue for clue in seen.influences if clue.family == "seed" and not clue.is_runs]


def _concerns(change: tuple[str, str], seed: Clue) -> bool:
    """Is it the seed that was changed?"""
    name, location = change
    return location == seed.location or name.rpartition(".")[2] in seed.mentions


def _the_code_changed(seen: Observations) -> Found | None:
    """The code is not what it was, and what it gives now, it gives every time."""
    return (Cause.CODE_CHANGE, seen.changes[0][1]) if seen.changes and not seen.varies else None


def _it_depends_on_what_was_before(seen: Observations) -> Found | None:
    """Performed after other steps, or a second time, it gives something else."""
    return (Cause.PROCESS_STATE, seen.state_location or seen.parting) if seen.state_matters else None


def _something_outside_changed(seen: Observations) -> Found | None:
    """It read something that is there, and was something else when it was recorded."""
    there = [clue for clue in seen.influences if clue.cause in (Cause.FILESYSTEM, Cause.ENVIRONMENT)]
    newer = [clue for clue in there if clue.is_newer]
    if newer:
        return newer[0].cause, newer[0].location
    if there:
        first = next((clue for clue in there if clue.cause is Cause.ENVIRONMENT), there[0])
        return first.cause, first.location
    others = [clue for clue in seen.influences if clue.family not in ("thread", "start", "seed")]
    return (others[0].cause, others[0].location) if others else None


def _it_may_depend_on_what_was_before(seen: Observations) -> Found | None:
    """What the step keeps in its module changes its output."""
    if seen.state_may_matter:
        return Cause.PROCESS_STATE, seen.state_location
    return (Cause.SEED_MISMATCH, seen.parting) if seen.run_seed_matters else None


def _it_is_the_only_one(seen: Observations) -> Found | None:
    """Nothing else comes in from outside, though no disturbance of it shows."""
    there = [clue for clue in seen.clues if clue.cause in (Cause.FILESYSTEM, Cause.ENVIRONMENT)]
    return (there[0].cause, there[0].location) if len({clue.location for clue in there}) == 1 else None


def _threads_race(seen: Observations) -> Found | None:
    if not seen.uses_threads:
        return None
    firsts = [clue for clue in seen.clues if clue.family == "thread"]
    starts = [clue for clue in seen.clues if clue.family == "start"]
    gathered = [clue for clue in firsts if not clue.name.endswith(".get")]
    for places in (gathered, [seen.race_location], firsts, starts):
        for place in places:
            location = place.location if isinstance(place, Clue) else place
            if location:
                return Cause.THREAD_RACE, location
    return Cause.THREAD_RACE, seen.parting


# --- what two values look like ----------------------------------------------------------------

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d")


def _it_looks_like(seen: Observations) -> Found | None:
    """The two values tell by themselves."""
    left, right = seen.divergence.recorded, seen.divergence.observed
    where = seen.parting or seen.field_location
    texts = [value for value in (left, right) if isinstance(value, str)]
    if len(texts) == 2:
        for pattern, cause in ((_ADDRESS, Cause.OBJECT_IDENTITY), (_UUID, Cause.UUID), (_MOMENT, Cause.WALL_CLOCK)):
            if all(pattern.search(text) for text in texts):
                return cause, where
    if is_permutation(seen.recorded, seen.observed) and "hash seed" in seen.varies_with:
        return Cause.SET_ORDER, where
    return None


def is_permutation(left: Any, right: Any) -> bool:
    """Do two JSON values hold the same, in another order?"""
    if isinstance(left, list) and isinstance(right, list):
        return left != right and sorted(map(repr, left)) == sorted(map(repr, right))
    if isinstance(left, str) and isinstance(right, str):
        return left != right and sorted(re.findall(r"\w+", left)) == sorted(re.findall(r"\w+", right))
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        parts = [(left[key], right[key]) for key in left if left[key] != right[key]]
        return bool(parts) and all(is_permutation(one, other) for one, other in parts)
    return False


_WORDS = words(
    """duration elapsed latency took runtime uptime walltime wall_time timing timings seconds_taken time_taken
    host hostname node_name worker worker_id pid process_id thread_id server machine instance_id
    request_id trace_id span_id correlation_id transaction_id log_id
    timestamp ts created_at updated_at generated_at generated_on produced_at computed_at calculated_at fetched_at
    processed_at processed_on measured_at recorded_at rendered_at started_at started finished_at finished ended_at
    completed_at completed start_time end_time begin_time executed_at run_at checked_at retrieved_at received_at
    sent_at logged_at queued_at begun_at built_at exported_at performed_at"""
)
_UNITS = re.compile(r"_(s|sec|secs|seconds|ms|millis|us|ns|micros|nanos|milliseconds|microseconds|nanoseconds)$")


def tells_about_performance(field: str) -> bool:
    """Is this the name of a field that tells how, when or where an answer was made, and not what it is?"""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field).lower().replace("-", "_")
    bare = _UNITS.sub("", name)
    if bare in _WORDS or name in _WORDS:
        return True
    parts = bare.split("_")
    return any(part in ("duration", "elapsed", "latency", "runtime") for part in parts)


def _only_telling_fields(recorded: Any, observed: Any) -> bool:
    """Do only such fields differ, with something else beside them that is equal?"""
    paths = [path for path, _, _ in differences(recorded, observed)]
    if not paths or not all(any(tells_about_performance(part) for part in path.split("/")[1:]) for path in paths):
        return False
    return _leaves(recorded) > len(paths)


def _leaves(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_leaves, value.values()))
    if isinstance(value, list):
        return sum(map(_leaves, value))
    return 1
