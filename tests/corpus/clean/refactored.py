"""The source was tidied between recording and replay; the answer is the same."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Edit, clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="refactored.total")
def total(cents: list[int]) -> int:
    result = 0
    for value in cents:
        result += value
    return result


flow = Workflow("refactored", total.s([1, 2, 3]))
CASE = clean(
    edits=(
        Edit(
            old="    result = 0\n    for value in cents:\n        result += value\n    return result\n",
            new="    # the sum of all positions\n    return sum(cents)\n",
        ),
    )
)
