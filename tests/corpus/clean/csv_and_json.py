"""csv in, json out, all in memory."""

import csv
import io
import json

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="csv_and_json.rows")
def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


@shared_task(name="csv_and_json.render")
def render(rows: list[dict]) -> str:
    return json.dumps(rows, indent=1, sort_keys=True)


flow = Workflow("csv_and_json", rows.s("name,cents\npump,500\ndoor,900\n") | render.s())
CASE = clean()
