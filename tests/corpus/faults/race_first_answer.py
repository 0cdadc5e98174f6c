"""Whoever answers first wins; 60 rounds."""

import queue
import threading
import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="race_first_answer.race")
def race(rounds: int) -> list[int]:
    winners = []
    for _ in range(rounds):
        answers: queue.Queue[int] = queue.Queue()
        gate = threading.Barrier(4)

        def ask(server: int, gate=gate, answers=answers) -> None:
            gate.wait()
            time.sleep(0.0003)
            answers.put(server)  # <- fault

        threads = [threading.Thread(target=ask, args=(server,)) for server in range(4)]
        for thread in threads:
            thread.start()  # <- fault
        winners.append(answers.get())  # <- fault
        for thread in threads:
            thread.join()
    return winners


flow = Workflow("race_first_answer", race.s(60))
CASE = Case(cause="thread_race")
