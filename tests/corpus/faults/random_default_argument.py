"""A default argument drawn when the module is imported."""

import random

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def salted(text: str, salt: float = random.random()) -> str:  # <- fault
    return f"{text}:{salt}"


@app.task(name="random_default_argument.label")
def label(text: str) -> str:
    return salted(text)


flow = Workflow("random_default_argument", label.s("crate"))
CASE = Case(cause="unseeded_random")
