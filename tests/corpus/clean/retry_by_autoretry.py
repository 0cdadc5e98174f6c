"""autoretry_for with backoff and jitter."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(
    name="retry_by_autoretry.flaky", bind=True, autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=4
)
def flaky(self, text: str) -> str:
    if self.request.retries < 2:
        raise ConnectionError("not yet")
    return text.upper()


flow = Workflow("retry_by_autoretry", flaky.s("done"))
CASE = clean()
