"""Digests, compression and encodings."""

import base64
import hashlib
import zlib

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="hashes_and_encodings.seal")
def seal(text: str) -> dict:
    data = text.encode()
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "crc": zlib.crc32(data),
        "size": len(zlib.decompress(zlib.compress(data))),
        "base64": base64.b64encode(data).decode(),
    }


flow = Workflow("hashes_and_encodings", seal.s("pump" * 50))
CASE = clean()
