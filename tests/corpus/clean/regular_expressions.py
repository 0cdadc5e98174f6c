"""Patterns, substitutions and named groups."""

import re

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


LINE = re.compile(r"(?P<product>\w+)\s+x(?P<count>\d+)")


@app.task(name="regular_expressions.parse")
def parse(text: str) -> list[dict]:
    return [found.groupdict() for found in LINE.finditer(text)]


@app.task(name="regular_expressions.mask")
def mask(lines: list[dict]) -> str:
    return re.sub(r"[aeiou]", "*", " ".join(line["product"] for line in lines))


flow = Workflow("regular_expressions", parse.s("pump x3, door x12") | mask.s())
CASE = clean()
