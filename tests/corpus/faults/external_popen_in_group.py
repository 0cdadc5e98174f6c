"""os.popen in one of three group members."""

import os

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="external_popen_in_group.double")
def double(number: int) -> int:
    return number * 2


@shared_task(name="external_popen_in_group.shell")
def shell(number: int) -> list:
    return [number, os.popen("echo $$").read().strip()]  # <- fault


flow = Workflow("external_popen_in_group", group(double.s(1), double.s(2), shell.s(3)))
CASE = Case(cause="external_call")
