"""Stable sorts, heaps and maxima with ties."""

import heapq
from operator import itemgetter

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="sorting_with_ties.rank")
def rank(rows: list[dict]) -> dict:
    return {
        "stable": sorted(rows, key=itemgetter("score")),
        "largest": heapq.nlargest(3, rows, key=itemgetter("score")),
        "first_best": max(rows, key=itemgetter("score")),
    }


ROWS = [{"name": name, "score": score} for name, score in zip("abcdefgh", [3, 1, 3, 2, 1, 3, 2, 2], strict=True)]
flow = Workflow("sorting_with_ties", rank.s(ROWS))
CASE = clean()
