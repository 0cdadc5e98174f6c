"""Investigation: the experiments on one divergent step, and what they show.

Its baseline is a process with a fixed hash seed and user code in which every call site is watched. What comes from
nowhere (clock, chance, order, identity) is frozen there; then one site at a time is given other values. A site whose
disturbance changes the divergent value has a part in it; whether it is the cause, ``causes.decide`` says.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aos_workflow.canonical import parse, without_volatile
from aos_workflow.clock import monotonic_s
from aos_workflow.determinism import disturbing
from aos_workflow.determinism import fingerprint as fingerprints
from aos_workflow.divergence import Cause, Divergence, Verdict, compare, differences
from aos_workflow.journal import Breach
from aos_workflow.recording import Recording
from aos_workflow.replay import tracing
from aos_workflow.replay.causes import Clue, Observations, decide
from aos_workflow.replay.controls import HASH_SEEDS, Control
from aos_workflow.replay.laboratory import TIMEOUT_S, Answer, Laboratory

#: What takes much longer than it did undisturbed is given up after so long, seconds: it waits for a clock, perhaps.
SHORTEST_PATIENCE_S = 2.0
#: Call sites that are disturbed, at most.
MOST_SITES = 40


def judged(recording: Recording, step: Mapping[str, Any]) -> tuple[Verdict, Divergence | None]:
    """Compare a step as ``observing`` told it with what was recorded."""
    address = step["address"]
    recorded = recording.step(address)
    if step["output"] is None:
        output = recorded.as_json()["output"]
        return Verdict.DIVERGED, Divergence(address=address, path="", recorded=output, observed=step["failure"])
    return compare(address, recorded.output, step["output"], step["volatile"])


class Investigation:
    """A divergence under investigation."""

    def __init__(
        self,
        laboratory: Laboratory,
        recording: Recording,
        document: Any,
        divergence: Divergence,
        ordeals: Mapping[str, Any],
        woken_by: str,
        *,
        deadline_s: float,
    ) -> None:
        self._laboratory, self._recording, self._document = laboratory, recording, document
        self._divergence, self._ordeals, self._woken_by = divergence, ordeals, woken_by
        self._deadline_s = deadline_s
        self._patience_s = TIMEOUT_S
        self._address = divergence.address
        self._recorded_at = float(document.get("recorded_at") or recording.logical_time)
        self._home = Control(hash_seed=HASH_SEEDS[0], addresses=(self._address,), instrument=True)

    def solve(self) -> tuple[Cause, str | None]:
        """The cause and its location."""
        return decide(self.observe())

    def observe(self) -> Observations:
        """Perform the experiments."""
        step = self._step_of_ordeal()
        began_s = monotonic_s()
        home, away, frozen, again = self._laboratory.perform_all(
            [self._document],
            [
                self._home,
                replace(self._home, hash_seed=HASH_SEEDS[1]),
                replace(self._home, freeze=True),
                replace(self._home, freeze=True, trace=True),
            ],
            timeout_s=max(SHORTEST_PATIENCE_S, self._deadline_s - began_s),
        )
        if "performed" not in home:  # the hooks do not suit this code: what can be seen from outside must do
            home = self._perform(replace(self._home, instrument=False))
        self._patience_s = max(SHORTEST_PATIENCE_S, 3 * (monotonic_s() - began_s))
        changes = self._changes(home)
        sites = self._candidates(home, away)
        at_import = any(site["phase"] == "import" for site in sites)
        base = replace(self._home, freeze=True, is_fresh=at_import)
        if at_import:  # each performance imports the user's modules, and that takes what it takes
            self._patience_s, began_s = TIMEOUT_S, monotonic_s()
            frozen = self._perform(base)
            self._patience_s = max(SHORTEST_PATIENCE_S, 4 * (monotonic_s() - began_s))
        varies = self._varies([home, away])
        is_explained = self._agree(frozen, again) if not at_import else self._agree(frozen, self._perform(base))
        state_matters, state_may_matter, after = self._state()
        other_seed = self._perform(replace(base, run_seed=self._recording.seed + 1, trace=True))
        clues = [self._clue(site, base, frozen, other_seed, after, is_explained=is_explained) for site in sites]
        parting = self._parting(home, away, after, other_seed, again)
        return Observations(
            divergence=self._divergence,
            recorded=self._comparable(self._recording.step(self._address).output, step["volatile"]),
            observed=self._comparable(step["output"], step["volatile"]),
            varies=varies,
            varies_with=self._surroundings(),
            is_explained=is_explained,
            refusals=tuple(Breach(**breach) for breach in step["breaches"]),
            clues=tuple(clues),
            changes=changes,
            state_matters=state_matters,
            state_may_matter=state_may_matter,
            state_location=after.get("state_location"),
            uses_threads=bool(home.get("threads") or away.get("threads")),
            race_location=again.get("shared_location") or None,
            run_seed_matters=not self._agree(frozen, other_seed),
            field_location=self._field_location(again),
            parting=parting,
        )

    # --- performing ------------------------------------------------------------------------

    def _perform(self, control: Control) -> Answer:
        left_s = self._deadline_s - monotonic_s()
        if left_s <= 0:
            return {}
        return self._laboratory.perform([self._document], control, timeout_s=min(left_s, self._patience_s))

    def _last(self, answer: Answer) -> Mapping[str, Any] | None:
        """The divergent step as it was performed last."""
        performed = answer.get("performed")
        if not performed or isinstance(performed[0], Mapping):
            return None
        steps = [step for step in performed[0][-1] if step["address"] == self._address]
        return steps[-1] if steps else None

    def _step_of_ordeal(self) -> Mapping[str, Any]:
        for passes in (self._ordeals[self._woken_by], self._ordeals[""]):
            for performed in passes:
                for step in performed:
                    if step["address"] == self._address and judged(self._recording, step)[1] == self._divergence:
                        found: Mapping[str, Any] = step
                        return found
        return next(step for step in self._ordeals[""][0] if step["address"] == self._address)

    def _comparable(self, output: str | None, volatile: Sequence[str]) -> Any:
        return without_volatile(parse(output), volatile) if output is not None else None

    def _value(self, answer: Answer) -> tuple[str, Any]:
        """("", the step's output), ("raised", what) or ("lost", None)."""
        step = self._last(answer)
        if step is None:
            return "lost", None
        if step["output"] is None:
            return "raised", step["failure"]
        return "", self._comparable(step["output"], step["volatile"])

    # --- comparing -------------------------------------------------------------------------

    def _agree(self, one: Answer, other: Answer) -> bool:
        return self._value(one) == self._value(other)

    def _changed(self, base: Answer, other: Answer) -> str:
        """What a disturbance did: "path", "output", "failure" or ""."""
        (base_state, left), (state, right) = self._value(base), self._value(other)
        if not other or base_state == "lost":
            return ""  # there was no time for it
        if state != base_state:
            return "failure"
        if left == right:
            return ""
        if state == "raised":
            return "path"
        path = self._divergence.path
        paths = [where for where, _, _ in differences(left, right)]
        near = any(_are_near(where, path) for where in paths)
        return "path" if near else "output"

    def _varies(self, answers: Sequence[Answer]) -> bool:
        """Did the divergent value come out differently here, with nothing changed but the process?"""
        values: list[Answer] = []
        for name in ("", "a second time", "hash seed", "siblings in another order"):
            passes = self._ordeals.get(name)
            if passes and not isinstance(passes, Mapping):
                steps = [step for step in passes[0] if step["address"] == self._address]
                values += [{"performed": [[steps]]}]
        values += [answer for answer in answers if self._last(answer)]
        return any(self._changed(values[0], other) in ("path", "failure") for other in values[1:])

    def _surroundings(self) -> frozenset[str]:
        """Which surroundings alone change the value."""
        passes, here = self._ordeals.get("elsewhere"), self._ordeals.get("hash seed")
        if not passes or not here or isinstance(passes, Mapping) or isinstance(here, Mapping):
            return frozenset()
        return frozenset({"elsewhere"} if self._changed(_answer(here), _answer(passes)) == "path" else ())

    # --- experiments -----------------------------------------------------------------------

    def _changes(self, home: Answer) -> tuple[tuple[str, str], ...]:
        task = self._recording.step(self._address).task
        now = (home.get("code") or {}).get(task) or {}
        found = fingerprints.changed(self._recording.code.get(task) or {}, now)
        telling = [change for change in found if not _only_talks(change[1])]
        return tuple(telling)

    def _candidates(self, home: Answer, away: Answer) -> list[dict[str, Any]]:
        """The sites that belong to the step, with whether their values move."""
        task = self._recording.step(self._address).task
        code = (home.get("code") or {}).get(task) or {}
        parts = [code, *code.get("parts", ())] if code else []
        others = {(site["key"], site["phase"]): site for site in away.get("sites", ())}
        found = []
        for site in home.get("sites", ()):
            if site["phase"] == "import" and not _is_within(site["location"], parts):
                continue
            other = others.get((site["key"], site["phase"]))
            site["moves"] = other is not None and other["results"] != site["results"]
            found.append(site)
        known = {(site["key"], site["phase"]) for site in found}
        for key, site in others.items():
            if key not in known and site["phase"] != "import":
                found.append({**site, "moves": True})
        return found[:MOST_SITES]

    def _clue(
        self, site: Mapping[str, Any], base: Control, frozen: Answer, other_seed: Answer, after: Answer, *,
        is_explained: bool,
    ) -> Clue:  # fmt: skip
        influence = ""
        if is_explained and site["family"] != "start":
            for variant in _variants(site):
                disturbed = self._perform(replace(base, disturb={site["key"]: variant}))
                influence = self._changed(frozen, disturbed)
                if influence in ("path", "output"):
                    break
        elif site["moves"]:
            influence = "output"
        file, _, line = site["location"].rpartition(":")
        return Clue(
            location=site["location"],
            name=site["name"],
            cause=Cause(site["cause"]),
            family=site["family"],
            order=site["order"],
            moves=site["moves"],
            influence=influence,
            is_newer=any(_is_newer(path, self._recorded_at) for path in site["paths"]),
            is_runs=site["family"] == "seed" and self._is_runs(site, frozen, other_seed, after),
            mentions=frozenset(tracing.names_in(file, int(line))),
        )

    def _is_runs(self, site: Mapping[str, Any], frozen: Answer, other_seed: Answer, after: Answer) -> bool:
        """Does the seed follow the run's seed, each time the step is performed?"""

        def same(answer: Answer) -> Mapping[str, Any]:
            return next((one for one in answer.get("sites", ()) if one["key"] == site["key"]), {})

        follows = same(other_seed).get("results") != same(frozen).get("results")
        return bool(follows and not site["moves"] and same(after).get("count", 0) >= 2 * site["count"])

    def _state(self) -> tuple[bool, bool, Answer]:
        """Does it matter what was performed before? Does what the step keeps matter?"""
        everything = tuple(step.address for step in self._recording.steps)
        before = tuple(address for address in everything if address != self._address)
        steady = replace(self._home, freeze=True)
        alone = self._perform(steady)
        after = self._perform(replace(steady, addresses=(*before, self._address, *before, self._address), trace=True))
        disturbed = self._perform(replace(steady, addresses=(*before, self._address), disturb_state=True))
        matters = bool(self._changed(alone, after))
        return matters, bool(self._changed(alone, disturbed)), after

    def _parting(self, home: Answer, away: Answer, after: Answer, other_seed: Answer, again: Answer) -> str | None:
        """The first line where two performances part that do not agree."""
        for other in (after, other_seed):
            if not self._agree(again, other):
                found = tracing.parting(again.get("events", ()), other.get("events", ()))
                if found:
                    return found
        if not self._agree(home, away):
            traced = [self._perform(replace(self._home, hash_seed=seed, trace=True)) for seed in HASH_SEEDS]
            return tracing.parting(*(answer.get("events", ()) for answer in traced))
        return None

    def _field_location(self, answer: Answer) -> str | None:
        field = self._divergence.path.rpartition("/")[2]
        lines = [(str(file), int(line)) for file, line in answer.get("lines", ())]
        return tracing.line_of_field(field, lines)


def _variants(site: Mapping[str, Any]) -> tuple[int, ...]:
    """Which disturbances to try: what is only compared with something notices the last."""
    is_there = site["family"] == "value" and site["cause"] in (Cause.ENVIRONMENT, Cause.FILESYSTEM)
    return disturbing.VARIANTS if is_there else disturbing.VARIANTS[:2]


def _answer(passes: Any) -> Answer:
    return {"performed": [passes]}


def _are_near(one: str, other: str) -> bool:
    """Is one of the two JSON pointers above the other, or the same? Lists that grew count as a whole."""
    if one == other:
        return True
    shorter, longer = sorted((one, other), key=len)
    if longer.startswith(shorter + "/") or not shorter:
        return True
    left, right = one.rpartition("/"), other.rpartition("/")
    return left[0] == right[0] and left[2].isdigit() and right[2].isdigit()


def _is_within(location: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    file, _, line = location.rpartition(":")
    return any(
        part.get("file") == os.path.abspath(file) and part["line"] <= int(line) < part["line"] + len(part["source"])
        for part in parts
    )


def _is_newer(path: str, moment_s: float) -> bool:
    try:
        return Path(path).stat().st_ctime > moment_s
    except OSError:
        return True  # it is gone


def _only_talks(location: str) -> bool:
    """Is the statement at this line one that only logs or prints?"""
    file, _, line = location.rpartition(":")
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and node.lineno <= int(line) <= (node.end_lineno or node.lineno):
            called = node.value.func if isinstance(node.value, ast.Call) else None
            names = {part.id for part in ast.walk(called) if isinstance(part, ast.Name)} if called else set()
            parts = {part.attr for part in ast.walk(called) if isinstance(part, ast.Attribute)} if called else set()
            if "print" in names or _LOGS & (names | parts):
                return True
    return False


_LOGS = frozenset({"log", "logger", "logging", "LOG", "LOGGER", "_log", "_logger"})
