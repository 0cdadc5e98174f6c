"""A table that is made on first use and then kept: the same in every process."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


_table: dict[str, int] = {}


def table() -> dict[str, int]:
    if not _table:
        _table.update({chr(ord("a") + position): position**2 for position in range(26)})
    return _table


@app.task(name="lazy_constants.value")
def value(word: str) -> int:
    return sum(table()[letter] for letter in word)


flow = Workflow("lazy_constants", value.s("pump"))
CASE = clean(runs_before=(None,))
