"""A dict keeps the order in which a frozenset was gone through; the next step shows it."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


FIELDS = frozenset({"name", "street", "city", "zip", "country", "phone", "mail", "birthday", "notes"})


@app.task(name="set_into_dict.header")
def header(separator: str) -> str:
    columns = dict.fromkeys(FIELDS, "")  # <- fault
    return separator.join(columns)  # <- fault


flow = Workflow("set_into_dict", header.s(";"))
CASE = Case(cause="set_order")
