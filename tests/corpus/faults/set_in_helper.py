"""A helper in another module loses the order, in one of three group members."""

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _set_unique

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_in_helper.words")
def words(text: str) -> list[str]:
    return text.split()


@shared_task(name="set_in_helper.unique_words")
def unique_words(text: str) -> list[str]:
    return _set_unique.unique(text.split())


TEXT = "the quick brown fox jumps over the lazy dog and runs away from all the other dogs"
flow = Workflow("set_in_helper", group(words.s(TEXT), unique_words.s(TEXT), words.s(TEXT[:20])))
CASE = Case(cause="set_order", files=("_set_unique.py",))
