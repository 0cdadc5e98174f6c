"""A shortest path with a heap, neighbours in the order of the input."""

import heapq

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="graph_search.path")
def path(edges: list[list], start: str, goal: str) -> list:
    near: dict[str, list[tuple[int, str]]] = {}
    for left, right, cost in edges:
        near.setdefault(left, []).append((cost, right))
        near.setdefault(right, []).append((cost, left))
    best, waiting = set(), [(0, start, [start])]
    while waiting:
        cost, node, way = heapq.heappop(waiting)
        if node == goal:
            return [cost, way]
        if node not in best:
            best.add(node)
            for step_cost, other in near[node]:
                heapq.heappush(waiting, (cost + step_cost, other, [*way, other]))
    return []


EDGES = [["a", "b", 4], ["a", "c", 1], ["c", "b", 2], ["b", "d", 5], ["c", "d", 8]]
flow = Workflow("graph_search", path.s(EDGES, "a", "d"))
CASE = clean()
