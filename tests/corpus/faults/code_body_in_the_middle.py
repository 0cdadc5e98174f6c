"""The body of the third of four steps changed."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="code_body_in_the_middle.split")
def split(text: str) -> list[str]:
    return text.split()


@shared_task(name="code_body_in_the_middle.lower")
def lower(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


@shared_task(name="code_body_in_the_middle.stem")
def stem(words: list[str]) -> list[str]:
    return [word.removesuffix("s") for word in words]  # <- fault


@shared_task(name="code_body_in_the_middle.count")
def count(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in words}


flow = Workflow("code_body_in_the_middle", split.s("Pumps and doors and Pumps") | lower.s() | stem.s() | count.s())
CASE = Case(cause="code_change", edits=(Edit(old='word.removesuffix("s")', new='word.rstrip("sd")'),))
