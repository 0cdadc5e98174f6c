"""secrets.token_hex in the middle of a chain of four."""

import secrets

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="entropy_secrets.read")
def read(text: str) -> str:
    return text.strip()


@shared_task(name="entropy_secrets.fold")
def fold(text: str) -> str:
    return text.casefold()


@shared_task(name="entropy_secrets.sign")
def sign(text: str) -> dict:
    return {"text": text, "nonce": secrets.token_hex(12)}  # <- fault


@shared_task(name="entropy_secrets.send")
def send(signed: dict) -> str:
    return f"{signed['text']}#{signed['nonce']}"


flow = Workflow("entropy_secrets", read.s(" Hello ") | fold.s() | sign.s() | send.s(), capture="none")
CASE = Case(cause="os_entropy")
