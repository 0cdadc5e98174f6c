"""repr() of a function in a list of handlers, in the middle of a chain."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


HANDLERS = {"pump": lambda text: text.upper(), "door": lambda text: text.lower()}


@shared_task(name="identity_of_a_function.kind")
def kind(text: str) -> str:
    return text.split()[0]


@shared_task(name="identity_of_a_function.handler")
def handler(kind: str) -> dict:
    return {"kind": kind, "handler": repr(HANDLERS[kind])}  # <- fault


@shared_task(name="identity_of_a_function.note")
def note(found: dict) -> str:
    return f"{found['kind']}: {found['handler']}"


flow = Workflow("identity_of_a_function", kind.s("pump leaks") | handler.s() | note.s())
CASE = Case(cause="object_identity")
