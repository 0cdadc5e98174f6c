"""~ is somebody else's home in the replay."""

import os.path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="environment_home.exports")
def exports(names: list[str]) -> list[str]:
    return [os.path.expanduser(f"~/exports/{name}") for name in names]  # <- fault


flow = Workflow("environment_home", exports.s(["a.csv", "b.csv"]))
CASE = Case(cause="environment")
