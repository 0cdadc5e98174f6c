"""secrets.choice, imported by name in another module."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _entropy_password

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="entropy_in_helper.invite")
def invite(user: str) -> dict:
    return {"user": user, "password": _entropy_password.password(12)}


flow = Workflow("entropy_in_helper", invite.s("ada"), capture="none")
CASE = Case(cause="os_entropy", files=("_entropy_password.py",))
