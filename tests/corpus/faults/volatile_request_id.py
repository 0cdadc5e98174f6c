"""A helper in another module adds a request id to an answer that is equal."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _volatile_envelope as envelope

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="volatile_request_id.search")
def search(word: str) -> dict:
    found = [line for line in ("red pump", "blue door", "red door") if word in line]
    return envelope.wrapped(found)


flow = Workflow("volatile_request_id", search.s("red"), capture="none")
CASE = Case(cause="volatile_field", files=("_volatile_envelope.py",))
