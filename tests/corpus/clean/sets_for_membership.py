"""Sets that are only asked, and sets that are sorted before they are shown."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


STOP = {"the", "and", "a", "of"}


@shared_task(name="sets_for_membership.terms")
def terms(text: str) -> dict:
    seen: set[str] = set()
    first = []
    for word in text.split():
        if word not in STOP and word not in seen:
            seen.add(word)
            first.append(word)
    return {"in_order": first, "sorted": sorted(seen), "count": len(seen), "longest": max(sorted(seen), key=len)}


flow = Workflow("sets_for_membership", terms.s("the pump and the door of a house the pump"))
CASE = clean()
