"""The Celery app of the example and its one workflow, ``assistant`` (``AOS_APP=examples.assistant.app``)."""

from __future__ import annotations

from celery import Celery, Signature

from aos_workflow import WorkflowTask, workflow
from examples.assistant.tasks import first_state, plan_turn, summarise, write_down

app = Celery("assistant", task_cls=WorkflowTask)


@workflow("assistant")
def assistant(question: str, base_url: str) -> Signature:
    """Turns of planning and tool calls until the model has enough, then a summary, then a notebook page.

    ``base_url`` is where ``examples.assistant.service`` listens.
    """
    return plan_turn.s(first_state(question, base_url)) | summarise.s() | write_down.s(base_url)
