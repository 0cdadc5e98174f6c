"""choice, imported by name, in the third of four steps."""

from random import choice

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="random_from_import.first")
def first(count: int) -> list[int]:
    return list(range(count))


@app.task(name="random_from_import.second")
def second(numbers: list[int]) -> list[int]:
    return [number * 3 for number in numbers]


@app.task(name="random_from_import.third")
def third(numbers: list[int]) -> list[int]:
    return [choice(numbers) for _ in range(5)]  # <- fault


@app.task(name="random_from_import.fourth")
def fourth(numbers: list[int]) -> int:
    return sum(numbers)


flow = Workflow("random_from_import", first.s(5000) | second.s() | third.s() | fourth.s(), capture="none")
CASE = Case(cause="unseeded_random")
