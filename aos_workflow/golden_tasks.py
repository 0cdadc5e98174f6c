"""The Celery tasks around goldens: one writes a run's golden, one replays a golden and compares hashes.

    aos.golden.record(run_id)      after a run has succeeded, off its hot path; any number of times
    aos.golden.verify(target)      the golden-verification task: a path of a golden, or a run's id

Plain Celery tasks: a lost message costs nothing but time, since the fleet's maintenance looks for goldens that are
wanted and not there.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task

from aos_workflow import wiring
from aos_workflow.errors import AosError

log = logging.getLogger("aos_workflow.golden")

RECORD, VERIFY = "aos.golden.record", "aos.golden.verify"


@shared_task(name=RECORD, base=Task, ignore_result=True)  # type: ignore[untyped-decorator]
def record(run_id: str) -> str | None:
    """Write the golden of a run, if it is wanted and not there; returns its path.

    What goes wrong is logged, and tried again if that may help.
    """
    runtime = wiring.runtime()
    try:
        return str(runtime.recorder.record(run_id)) if runtime.store.wants_golden(run_id) else None
    except AosError as error:
        log.log(
            logging.WARNING if error.retryable else logging.ERROR,
            "no golden of run %s: %s",
            run_id,
            error,
            extra={"run": run_id, "code": error.code},
        )
        return None


@shared_task(name=VERIFY, base=Task)  # type: ignore[untyped-decorator]
def verify(target: str, **perturbed: Any) -> dict[str, Any]:
    """Replay a golden (its path) or a run (its id) in a fresh sealed process, and compare.

    ``perturbed``: what that process finds different: ``hash_seed``, ``tz``, ``cwd``, ``shuffle`` (a seed for the
    order of siblings). Returns ``Replayed`` as JSON: "verdict" is matched, ignored, diverged or error.
    """
    answer: dict[str, Any] = wiring.runtime().replay_apart(target, **perturbed)
    log.log(
        logging.INFO if answer["verdict"] in ("matched", "ignored") else logging.ERROR,
        "golden %s of run %s: %s",
        answer["golden"] or target,
        answer["run_id"],
        answer["verdict"],
        extra={"run": answer["run_id"], "verdict": answer["verdict"]},
    )
    return answer
