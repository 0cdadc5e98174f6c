"""hash() of an object that defines none is made of its address."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _identity_cache_key as keys

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="identity_hash_in_helper.cached")
def cached(text: str) -> dict:
    return {"text": text, "keys": {"query": keys.cache_key(keys.Query(text))}}


flow = Workflow("identity_hash_in_helper", cached.s("open orders"))
CASE = Case(cause="object_identity", files=("_identity_cache_key.py",))
