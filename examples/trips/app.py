"""The Celery app of the example and its one workflow, ``trips`` (set ``AOS_APP=examples.trips.app``)."""

from __future__ import annotations

from celery import Celery, Signature, group

from aos_workflow import WorkflowTask, workflow
from examples.trips.tasks import add_up, check, clean, combine, learn, read_manifest, write_report

app = Celery("trips", task_cls=WorkflowTask)


@workflow("trips")
def trips(data_dir: str, parts: int, report_path: str) -> Signature:
    """Read the manifest, work on all parts side by side, add them up, write the report.

    ``data_dir`` is a folder that ``examples.trips.generate`` wrote, ``parts`` the number of its parts.
    4 * parts + 3 steps.
    """
    stretches = group(check.s(number) | learn.s() | clean.s() | add_up.s() for number in range(1, parts + 1))
    return read_manifest.s(data_dir, parts) | stretches | combine.s() | write_report.s(report_path)
