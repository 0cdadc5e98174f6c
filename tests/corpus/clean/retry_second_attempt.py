"""self.retry; the second attempt succeeds and says so."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="retry_second_attempt.flaky", bind=True, max_retries=3)
def flaky(self, text: str) -> dict:
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("not yet"), countdown=2)
    return {"text": text, "retries": self.request.retries}


@shared_task(name="retry_second_attempt.after")
def after(answer: dict) -> str:
    return f"{answer['text']} after {answer['retries']}"


flow = Workflow("retry_second_attempt", flaky.s("done") | after.s())
CASE = clean()
