"""The third of four steps seeds its own generator with the time."""

import random
import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="seed_clock_in_the_middle.load")
def load(count: int) -> list[int]:
    return list(range(count))


@shared_task(name="seed_clock_in_the_middle.keep_even")
def keep_even(rows: list[int]) -> list[int]:
    return [row for row in rows if row % 2 == 0]


@shared_task(name="seed_clock_in_the_middle.split")
def split(rows: list[int]) -> dict[str, list[int]]:
    rows = list(rows)
    random.Random(time.time_ns()).shuffle(rows)  # <- fault
    return {"train": rows[:80], "test": rows[80:]}


@shared_task(name="seed_clock_in_the_middle.measure")
def measure(parts: dict[str, list[int]]) -> dict[str, int]:
    return {name: sum(rows) for name, rows in parts.items()}


flow = Workflow("seed_clock_in_the_middle", load.s(200) | keep_even.s() | split.s() | measure.s(), capture="none")
CASE = Case(cause="seed_mismatch", also=("wall_clock",))
