"""chunks, map and starmap."""

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="chunks_map_starmap.add")
def add(left: int, right: int) -> int:
    return left + right


@shared_task(name="chunks_map_starmap.double")
def double(number: int) -> int:
    return number * 2


PAIRS = [(number, number + 1) for number in range(10)]
flow = Workflow("chunks_map_starmap", group(add.chunks(PAIRS, 3), double.map(list(range(5))), add.starmap(PAIRS[:4])))
CASE = clean()
