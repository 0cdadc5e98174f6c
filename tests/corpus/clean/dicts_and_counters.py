"""Dicts keep the order of insertion; counters count."""

from collections import Counter, defaultdict

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="dicts_and_counters.tally")
def tally(words: list[str]) -> dict:
    by_length = defaultdict(list)
    for word in words:
        by_length[str(len(word))].append(word)
    return {"most": Counter(words).most_common(2), "by_length": dict(by_length), "first": next(iter(by_length))}


flow = Workflow("dicts_and_counters", tally.s(["the", "pump", "the", "door", "a", "pump", "the"]))
CASE = clean()
