"""Three pure steps."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="pure_chain.clean")
def tidy(text: str) -> str:
    return " ".join(text.split()).lower()


@app.task(name="pure_chain.words")
def words(text: str) -> list[str]:
    return text.split()


@app.task(name="pure_chain.count")
def count(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in words}


flow = Workflow("pure_chain", tidy.s("  The Pump  the door ") | words.s() | count.s())
CASE = clean()
