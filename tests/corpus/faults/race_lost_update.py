"""Read, wait, write without a lock: updates are lost, in the second of three steps."""

import threading
import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Journal:
    checksum = 1

    def enter(self, amount: int) -> None:
        before = self.checksum  # <- fault
        time.sleep(0.0002)
        self.checksum = (before * 31 + amount) % 1_000_003  # <- fault


@shared_task(name="race_lost_update.amounts")
def amounts(count: int) -> list[int]:
    return [3**position for position in range(count)]


@shared_task(name="race_lost_update.book")
def book(amounts: list[int]) -> int:
    journal = Journal()

    def work(amount: int) -> None:
        for _ in range(25):
            journal.enter(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in amounts]
    for thread in threads:
        thread.start()  # <- fault
    for thread in threads:
        thread.join()
    return journal.checksum


@shared_task(name="race_lost_update.report")
def report(checksum: int) -> str:
    return f"checksum {checksum}"


flow = Workflow("race_lost_update", amounts.s(8) | book.s() | report.s())
CASE = Case(cause="thread_race")
