"""A relative path is resolved against the working directory."""

from pathlib import Path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="environment_cwd.target")
def target(name: str) -> str:
    return str(Path(name).resolve())  # <- fault


flow = Workflow("environment_cwd", target.s("report.pdf"))
CASE = Case(cause="environment")
