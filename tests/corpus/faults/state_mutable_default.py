"""A mutable default argument keeps what earlier runs put into it."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def remembered(word: str, seen: list[str] = []) -> list[str]:  # <- fault
    seen.append(word)  # <- fault
    return list(seen)


@app.task(name="state_mutable_default.collect")
def collect(words: list[str]) -> list[list[str]]:
    return [remembered(word) for word in words]


flow = Workflow("state_mutable_default", collect.s(["a", "b"]))
CASE = Case(cause="process_state", runs_before=(None,) * 10)
