"""os.urandom and secrets under the default capture: served."""

import os
import secrets

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="entropy_served.keys")
def keys(count: int) -> list:
    return [secrets.token_hex(8) for _ in range(count)] + [os.urandom(4).hex()]  # <- fault


flow = Workflow("entropy_served", keys.s(3))
CASE = Case(cause="os_entropy", expected="matched")
