"""set.pop() picks the winner."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="set_popped.winner")
def winner(names: list[str]) -> str:
    candidates = {name.title() for name in names}
    return candidates.pop()  # <- fault


flow = Workflow("set_popped", winner.s([f"candidate number {number}" for number in range(50)]))
CASE = Case(cause="set_order")
