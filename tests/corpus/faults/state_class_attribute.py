"""itertools.count as a class attribute numbers the rows of all runs, in a group member."""

import itertools

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Row:
    numbers = itertools.count(1)

    def __init__(self, text: str) -> None:
        self.number = next(Row.numbers)  # <- fault
        self.text = text


@app.task(name="state_class_attribute.plain")
def plain(text: str) -> str:
    return text


@app.task(name="state_class_attribute.numbered")
def numbered(text: str) -> str:
    row = Row(text)
    return f"{row.number}. {row.text}"  # <- fault


flow = Workflow("state_class_attribute", group(plain.s("a"), numbered.s("b"), plain.s("c")))
CASE = Case(cause="process_state", runs_before=(None,) * 10)
