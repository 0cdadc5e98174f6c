"""Temporary files whose names do not reach the output."""

import tempfile
from pathlib import Path

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="scratch_files.sort_on_disk")
def sort_on_disk(words: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "words.txt")
        scratch.write_text("\n".join(words), encoding="utf-8")
        return sorted(scratch.read_text(encoding="utf-8").splitlines())


flow = Workflow("scratch_files", sort_on_disk.s(["pump", "door", "axe"]))
CASE = clean()
