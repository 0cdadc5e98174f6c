"""A part of a uuid4, imported by name in another module, in one of three group members."""

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _uuid_names

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="uuid_in_helper.keep")
def keep(stem: str) -> str:
    return f"{stem}.csv"


@shared_task(name="uuid_in_helper.rename")
def rename(stem: str) -> str:
    return _uuid_names.unique_name(stem)


flow = Workflow("uuid_in_helper", group(keep.s("a"), rename.s("b"), keep.s("c")), capture="none")
CASE = Case(cause="uuid", files=("_uuid_names.py",))
