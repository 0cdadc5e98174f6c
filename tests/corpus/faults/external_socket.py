"""A raw socket, which capture does not serve, under the default capture."""

import socket
from urllib.parse import urlsplit

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="external_socket.banner")
def banner(url: str) -> str:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=5) as wire:  # <- fault
        wire.sendall(b"GET /banner HTTP/1.0\r\n\r\n")  # <- fault
        answer = b""
        while part := wire.recv(4096):  # <- fault
            answer += part
    return answer.partition(b"\r\n\r\n")[2].decode()


def at_recording(world: World) -> None:
    world.server.answers["/banner"] = "ready since Monday"


def before_replay(world: World) -> None:
    world.server.answers["/banner"] = "ready since Friday"


flow = Workflow("external_socket", banner.s())
CASE = Case(cause="external_call", inputs="{server}", prepare=at_recording, before_replay=before_replay)
