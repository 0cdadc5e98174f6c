"""A default argument changed, of a function that the step calls."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


def shortened(text: str, width: int = 12) -> str:  # <- fault
    return text if len(text) <= width else f"{text[: width - 1]}…"


@app.task(name="code_default_argument.titles")
def titles(texts: list[str]) -> list[str]:
    return [shortened(text) for text in texts]


flow = Workflow("code_default_argument", titles.s(["a short one", "one that is a good deal longer"]))
CASE = Case(cause="code_change", edits=(Edit(old="width: int = 12", new="width: int = 20"),))
