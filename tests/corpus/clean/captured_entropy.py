"""Untouched os.urandom and secrets under the default capture."""

import base64
import os
import secrets

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="captured_entropy.keys")
def keys(count: int) -> list[str]:
    drawn = [base64.b64encode(os.urandom(9)).decode() for _ in range(count)]
    return [*drawn, secrets.token_urlsafe(8)]


flow = Workflow("captured_entropy", keys.s(2), capture="ambient")
CASE = clean(served=True)
