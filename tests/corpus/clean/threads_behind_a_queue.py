"""Workers take from a queue; results are sorted before they are returned."""

import queue
import threading

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="threads_behind_a_queue.hash_all")
def hash_all(words: list[str]) -> list[list]:
    waiting: queue.Queue[str] = queue.Queue()
    done: queue.Queue[list] = queue.Queue()
    for word in words:
        waiting.put(word)

    def work() -> None:
        while True:
            try:
                word = waiting.get_nowait()
            except queue.Empty:
                return
            done.put([word, sum(word.encode())])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done.get() for _ in words)


flow = Workflow("threads_behind_a_queue", hash_all.s([f"word {number}" for number in range(40)]))
CASE = clean()
