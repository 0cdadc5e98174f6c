"""Dispatch: addresses -> messages. A Plan's linear stretches travel as Celery chains, its fan-outs as groups.

Every message is a wake-up call: it names a run and an address and carries no value. A chain
holds at most ``window`` links, so a message's size does not depend on the workflow's length;
the last link's commit sends the next window.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery, chain, group
from kombu.exceptions import KombuError

from aos_workflow.events import announce
from aos_workflow.messages import Progress
from aos_workflow.plan import Plan, Step
from aos_workflow.task import HEADER, CeleryTasks

log = logging.getLogger("aos_workflow.dispatch")

#: What a broker that is away may raise: kombu wraps what it knows, the rest is sockets.
BROKER_ERRORS: tuple[type[BaseException], ...] = (KombuError, OSError)
_DELIVERY = ("queue", "exchange", "routing_key", "priority", "time_limit", "soft_time_limit")
#: A Redis that is frozen or out of reach is noticed within seconds; kombu's default is never. Seconds.
REDIS_PATIENCE = {
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


class CeleryDispatch:
    """Publishes through one Celery app. ``window``: the longest chain in one message."""

    def __init__(self, app: Celery, *, window: int = 8) -> None:
        self.app = app
        self.window = window
        self._tasks = CeleryTasks(app)
        bound_patience(app)

    def publish(self, progress: Progress) -> bool:
        """Send what may run now; False if the broker is away (the sweep sends it again)."""
        if not progress.released:
            return True
        return self.publish_all([progress])

    def publish_all(self, several: Sequence[Progress]) -> bool:
        """Send for several runs over one connection."""
        try:
            with self.app.producer_or_acquire() as producer:
                producer.connection.ensure_connection(max_retries=0)  # kombu itself would try for six seconds
                for progress in several:
                    canvas = self.canvas(progress)
                    if canvas is not None:
                        canvas.apply_async(producer=producer, retry=False)
        except BROKER_ERRORS as error:
            log.warning("the broker is away, the sweep will publish: %s", error)
            announce("publish.failed", error=str(error))
            return False
        return True

    def send(self, task_name: str, *arguments: Any) -> bool:
        """Send a plain task; False if the broker is away."""
        try:
            with self.app.producer_or_acquire() as producer:
                producer.connection.ensure_connection(max_retries=0)
                self.app.send_task(task_name, arguments, producer=producer, retry=False, ignore_result=True)
        except BROKER_ERRORS as error:
            log.warning("the broker is away, %s is not sent now: %s", task_name, error)
            return False
        return True

    def canvas(self, progress: Progress) -> Any:
        """The canvas of address-only signatures for what was released: a chain, or a group of chains."""
        stretches = [self._stretch(progress, address) for address in progress.released]
        if not stretches:
            return None
        return stretches[0] if len(stretches) == 1 else group(stretches, app=self.app)

    def broker_is_empty(self) -> bool:
        """Does no message wait in any queue this app knows? False when the broker cannot tell."""
        try:
            with self.app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=0, timeout=2)
                with connection.channel() as channel:
                    return not any(self._waiting(channel, name) for name in self.app.amqp.queues)
        except BROKER_ERRORS:
            return False

    @staticmethod
    def _waiting(channel: Any, queue: str) -> int:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except Exception as error:  # each transport has its own "no such queue"
            if isinstance(error, OSError):
                raise
            return 0

    def _stretch(self, progress: Progress, address: str) -> Any:
        links = [self._signature(progress, step) for step in stretch(progress.plan, address, self._tasks, self.window)]
        return links[0] if len(links) == 1 else chain(links, app=self.app)

    def _signature(self, progress: Progress, step: Step) -> Any:
        options = {name: step.options[name] for name in _DELIVERY if name in step.options}
        header = {
            "run": progress.run_id,
            "address": step.address,
            "epoch": progress.epoch,
            "plan": progress.plan_digest,
        }
        return self.app.signature(
            step.task,
            args=(),
            immutable=True,
            task_id=f"{progress.run_id}:{step.address}",
            headers={HEADER: header},
            argsrepr=f"{progress.run_id} / {step.address}",
            kwargsrepr="",
            **options,
        )


def bound_patience(app: Celery) -> None:
    """Let nobody wait for ever for a Redis that does not answer; what the app has set itself stays."""
    if str(app.conf.broker_write_url or "").startswith(("redis", "sentinel")):
        app.conf.broker_transport_options = {**REDIS_PATIENCE, **(app.conf.broker_transport_options or {})}


def stretch(plan: Plan, address: str, tasks: CeleryTasks, longest: int) -> Iterable[Step]:
    """The steps of one message: from ``address`` on, each the only successor of the one before.

    Steps that will run in place need no link of their own, so they are passed over.
    """
    here = plan.step(address)
    yield here
    if plan.is_handler(address):
        return
    links = 1
    while links < longest:
        following = plan.successors(here.address)
        if len(following) != 1 or following[0].after != (here.address,):
            return
        before, here = here, following[0]
        if not tasks.runs_here(here, before):
            links += 1
            yield here
