"""hash() of a string chooses the bucket."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_hash_of_text.bucket")
def bucket(customers: list[str]) -> dict[str, int]:
    return {customer: hash(customer) % 64 for customer in customers}  # <- fault


flow = Workflow("set_hash_of_text", bucket.s(["ada", "grace", "edsger", "barbara"]))
CASE = Case(cause="set_order")
