"""asyncio.to_thread and as_completed, in one of three group members."""

import asyncio
import time

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def looked_up(number: int) -> int:
    for _ in range(3):
        time.sleep(0.0005)
    return number


async def in_any_order(count: int) -> list[int]:
    waiting = [asyncio.to_thread(looked_up, number) for number in range(count)]
    return [await done for done in asyncio.as_completed(waiting)]  # <- fault


@app.task(name="race_in_asyncio.in_order")
def in_order(count: int) -> list[int]:
    return list(range(count))


@app.task(name="race_in_asyncio.look_up")
def look_up(count: int) -> list[int]:
    return asyncio.run(in_any_order(count))  # <- fault


flow = Workflow("race_in_asyncio", group(in_order.s(5), look_up.s(60), in_order.s(3)))
CASE = Case(cause="thread_race")
