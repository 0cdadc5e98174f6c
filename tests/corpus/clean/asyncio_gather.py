"""Coroutines through asyncio.run, gathered in order."""

import asyncio

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


async def fetched(number: int) -> int:
    await asyncio.sleep(0.001 * (number % 3))
    return number * 10


async def all_of(count: int) -> list[int]:
    return await asyncio.gather(*(fetched(number) for number in range(count)))


@shared_task(name="asyncio_gather.fetch")
def fetch(count: int) -> list[int]:
    return asyncio.run(all_of(count))


flow = Workflow("asyncio_gather", fetch.s(8))
CASE = clean()
