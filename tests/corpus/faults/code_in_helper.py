"""A function of another module changed."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

from . import _code_tax

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="code_in_helper.invoice")
def invoice(cents: int) -> dict:
    return {"net": cents, "gross": _code_tax.with_tax(cents)}


flow = Workflow("code_in_helper", invoice.s(1000))
CASE = Case(
    cause="code_change",
    edits=(Edit(old="cents * 19 // 100", new="cents * 21 // 100", file="_code_tax.py"),),
    files=("_code_tax.py",),
)
