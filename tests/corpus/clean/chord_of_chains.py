"""A chord whose header is made of chains."""

from celery import Celery, chain, chord

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="chord_of_chains.load")
def load(part: int) -> list[int]:
    return list(range(part, part + 5))


@step(name="chord_of_chains.noise")
def noise(ctx: StepContext, numbers: list[int]) -> list[float]:
    return [number + ctx.random.random() for number in numbers]


@app.task(name="chord_of_chains.merge")
def merge(parts: list[list[float]]) -> list[float]:
    return sorted(value for part in parts for value in part)


flow = Workflow("chord_of_chains", chord([chain(load.s(part), noise.s()) for part in (0, 10, 20)], merge.s()))
CASE = clean()
