"""Which part of a golden does not fit the rest: every digest in it is computed again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from aos_workflow.canonical import digest, render, stable_digest
from aos_workflow.errors import AosError
from aos_workflow.recording import Recording
from aos_workflow.records import workflow_hash

#: What is said of a change that no digest of a part shows.
UNCOVERED = "something without a digest of its own (run_id, times, effects, attempts, made_by, code ...)"
_FLAWS = (KeyError, TypeError, AttributeError, ValueError, AosError)


def contradictions(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of a golden's document that contradict the rest of it; for any JSON object."""
    found = [
        *_checked("inputs", lambda: digest(render(document["inputs"])) == document["inputs_digest"]),
        *_checked("plan", lambda: digest(render(document["plan"])) == document["plan_digest"]),
    ]
    steps = _listed(document, "steps")
    outputs = {}
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping) or not isinstance(step.get("address"), str):
            found.append(f"step {number + 1}")
            continue
        outputs[step["address"]] = step.get("output")
        found += _in_step(step)
    for splice in _listed(document, "splices"):
        found += _in_splice(splice, outputs)
    proof = _checked(
        "workflow_hash (or workflow, seed, addresses)", lambda: _proof(document) == document["workflow_hash"]
    )
    names = [name for name in ("run_id", "workflow") if not isinstance(document.get(name), str)]
    return tuple(found or names or [*proof] or _checked("its form", lambda: bool(Recording.from_json(document))))


def changed_parts(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of a document whose content was changed: the contradictions, or that none of its digests tells."""
    return contradictions(document) or tuple(_volatile_of(document)) or (UNCOVERED,)


def _in_step(step: Mapping[str, Any]) -> Iterator[str]:
    address = step.get("address")
    if not _holds(lambda: digest(render(step["output"])) == step["digest"]):
        # Of two digests one may still fit the output: then it is the other that was changed.
        fits = _holds(partial(_has_stable_digest, step))
        yield f"{'digest' if fits else 'output'} of step {address}"


def _volatile_of(document: Mapping[str, Any]) -> Iterator[str]:
    for step in _listed(document, "steps"):
        if isinstance(step, Mapping):
            where = f"stable_digest or volatile of step {step.get('address')}"
            yield from _checked(where, partial(_has_stable_digest, step))


def _in_splice(splice: Any, outputs: Mapping[Any, Any]) -> Iterator[str]:
    address = splice.get("address") if isinstance(splice, Mapping) else None
    return _checked(
        f"sub-plan of step {address}",
        lambda: digest(render(splice["plan"])) == outputs[address]["replaced_by"],
    )


def _has_stable_digest(step: Mapping[str, Any]) -> bool:
    return bool(stable_digest(render(step["output"]), tuple(step["volatile"])) == step["stable_digest"])


def _proof(document: Mapping[str, Any]) -> str:
    return workflow_hash(
        workflow=document["workflow"],
        inputs_digest=document["inputs_digest"],
        seed=document["seed"],
        digests={step["address"]: step["stable_digest"] for step in document["steps"]},
    )


def _listed(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _checked(part: str, is_right: Callable[[], bool]) -> Iterator[str]:
    """Yield the part unless it is right."""
    if not _holds(is_right):
        yield part


def _holds(is_right: Callable[[], bool]) -> bool:
    """Is it right? What cannot even be asked is not."""
    try:
        return is_right()
    except _FLAWS:
        return False
