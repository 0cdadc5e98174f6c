"""Explain: for each recording whether it still gives its answer, here and elsewhere, and if not, why and where.

    1. every recording is replayed as it is, with other hash seeds, with siblings in another order, a second time in
       the same process, and elsewhere (environment, time zone, folder): one batch each
    2. what diverged is investigated: its first divergent step is performed again under one control at a time

Few processes are started; performances are forks of them, some milliseconds each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aos_workflow.clock import monotonic_s
from aos_workflow.divergence import Divergence, Verdict
from aos_workflow.recording import Recording
from aos_workflow.replay import controls
from aos_workflow.replay.controls import HASH_SEEDS, Control
from aos_workflow.replay.investigation import Investigation, judged
from aos_workflow.replay.laboratory import TIMEOUT_S, Laboratory
from aos_workflow.replay.targets import Target

#: How long one divergence may be looked at, seconds; what is known by then decides.
BUDGET_S = 20.0

#: What an ordeal may take for each recording, and for each of its steps, beyond the usual time, seconds.
SECONDS_PER_RECORDING, SECONDS_PER_STEP = 5.0, 0.05

#: What every recording has to stand, by the name under which a difference is reported.
ORDEALS: Mapping[str, Control] = {
    "": controls.NATURAL,
    "a second time": Control(passes=2),
    "hash seed": Control(hash_seed=HASH_SEEDS[0]),
    "siblings in another order": Control(hash_seed=HASH_SEEDS[1], shuffle=7),
    "elsewhere": replace(controls.ELSEWHERE_ALTOGETHER, hash_seed=HASH_SEEDS[0]),
}


def explain(
    targets: Sequence[Target],
    *,
    app: str,
    environment: Mapping[str, str],
    volatile: tuple[str, ...] = (),
    budget_s: float = BUDGET_S,
    tell: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """One result per target, in their order: verdict, and for a divergence its cause. ``tell(index)``: it is done."""
    laboratory = Laboratory(app, environment, volatile)
    try:
        readable = [index for index, target in enumerate(targets) if target.document is not None]
        ordeals = _ordeals(laboratory, [targets[index].document for index in readable])
        results = []
        for index, target in enumerate(targets):
            if index in readable:
                results.append(_result(laboratory, target, ordeals[readable.index(index)], budget_s))
            else:
                results.append(_without_answer(target, target.error.as_json() if target.error else None))
            tell(index)
        return results
    finally:
        laboratory.close()


def _ordeals(laboratory: Laboratory, documents: Sequence[Any]) -> list[dict[str, Any]]:
    """For each recording: the name of an ordeal -> the passes of it, or {"error": ...}."""
    if not documents:
        return []
    steps = sum(len(document.get("steps", ())) for document in documents)
    timeout_s = TIMEOUT_S + SECONDS_PER_RECORDING * len(documents) + SECONDS_PER_STEP * steps
    answers = laboratory.perform_all(documents, list(ORDEALS.values()), timeout_s=timeout_s)
    found: list[dict[str, Any]] = [{} for _ in documents]
    for name, answer in zip(ORDEALS, answers, strict=True):
        for number, document in enumerate(documents):
            performed = answer.get("performed")
            if performed is None and len(documents) > 1 and "error" not in answer:  # one of them took it down
                performed = [None] * number + (
                    laboratory.perform([document], ORDEALS[name]).get("performed") or [answer]
                )
            found[number][name] = performed[number] if performed is not None else answer
    return found


def _result(laboratory: Laboratory, target: Target, ordeals: Mapping[str, Any], budget_s: float) -> dict[str, Any]:
    document = target.document or {}
    plain = ordeals[""]
    if isinstance(plain, Mapping):
        lost = {"code": "REPLAY_PROCESS_LOST", "message": plain.get("lost"), "fix": "perform the step alone"}
        return _without_answer(target, plain.get("error") or lost)
    recording = Recording.from_json(document)
    woken_by, divergence, verdict = _first_divergence(recording, ordeals)
    if divergence is not None:
        until_s = monotonic_s() + budget_s
        looked = Investigation(laboratory, recording, document, divergence, ordeals, woken_by, deadline_s=until_s)
        cause, location = looked.solve()
        divergence = divergence.because(cause, location)
    return {
        "workflow": recording.workflow,
        "run_id": recording.run_id,
        "golden": target.golden,
        "verdict": verdict.value,
        "divergence": divergence.as_json() if divergence else None,
        "woken_by": woken_by or None,
        "error": None,
    }


def _without_answer(target: Target, error: Any) -> dict[str, Any]:
    document = target.document or {}
    return {
        "workflow": document.get("workflow", ""),
        "run_id": document.get("run_id", "" if target.golden else target.name),
        "golden": target.golden,
        "verdict": Verdict.ERROR.value,
        "divergence": None,
        "woken_by": None,
        "error": error,
    }


def _first_divergence(recording: Recording, ordeals: Mapping[str, Any]) -> tuple[str, Divergence | None, Verdict]:
    """By which ordeal, where, and the verdict. A step that only fails elsewhere lacks something there."""
    verdict = Verdict.MATCHED
    for name, passes in ordeals.items():
        if isinstance(passes, Mapping):
            continue
        for performed in passes:
            found = _all_divergences(recording, performed)
            verdict = Verdict.IGNORED if found is _IGNORED else verdict
            if isinstance(found, Divergence):
                step = next(step for step in performed if step["address"] == found.address)
                if name == "elsewhere" and step["output"] is None:
                    continue
                return name, found, Verdict.DIVERGED
    return "", None, verdict


_IGNORED = object()


def _all_divergences(recording: Recording, performed: Sequence[Mapping[str, Any]]) -> Any:
    by_address = {step["address"]: step for step in performed}
    ignored = False
    for recorded in recording.steps:
        step = by_address.get(recorded.address)
        if step is None:
            continue
        verdict, divergence = judged(recording, step)
        if divergence is not None:
            return divergence
        ignored |= verdict is Verdict.IGNORED
    return _IGNORED if ignored else None
