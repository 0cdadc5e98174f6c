"""Errors that are caught and told."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="caught_errors.parse")
def parse(words: list[str]) -> list:
    read = []
    for word in words:
        try:
            read.append(int(word))
        except ValueError as error:
            read.append(f"{type(error).__name__}: {error}")
    return read


flow = Workflow("caught_errors", parse.s(["1", "two", "3"]))
CASE = clean()
