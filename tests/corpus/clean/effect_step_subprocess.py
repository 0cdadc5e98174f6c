"""An effect step runs a program."""

import subprocess

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="effect_step_subprocess.nanoseconds", effect=True)
def nanoseconds() -> str:
    return subprocess.run(["date", "+%s%N"], capture_output=True, text=True, check=True).stdout.strip()


@shared_task(name="effect_step_subprocess.parity")
def parity(digits: str) -> list:
    return [digits, int(digits) % 2]


flow = Workflow("effect_step_subprocess", nanoseconds.s() | parity.s())
CASE = clean(served=True)
