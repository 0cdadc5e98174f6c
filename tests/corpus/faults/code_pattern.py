"""A regular expression at module level changed, used in one of three group members."""

import re

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


NUMBER = re.compile(r"\d+")  # <- fault


@app.task(name="code_pattern.words")
def words(text: str) -> int:
    return len(text.split())


@app.task(name="code_pattern.numbers")
def numbers(text: str) -> list[str]:
    return NUMBER.findall(text)


TEXT = "order 12, 3.50 each, 42.00 in all"
flow = Workflow("code_pattern", group(words.s(TEXT), numbers.s(TEXT), words.s(TEXT[:8])))
CASE = Case(cause="code_change", edits=(Edit(old=r'r"\d+"', new=r'r"\d+(?:\.\d+)?"'),))
