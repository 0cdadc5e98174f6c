"""The output of a program."""

import subprocess

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="external_subprocess.nonce")
def nonce(text: str) -> str:
    done = subprocess.run(["date", "+%N"], capture_output=True, text=True, check=True)  # <- fault
    return f"{text}-{done.stdout.strip()}"


flow = Workflow("external_subprocess", nonce.s("order"))
CASE = Case(cause="external_call")
