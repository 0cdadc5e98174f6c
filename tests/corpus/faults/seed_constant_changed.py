"""A seed of the module's own, changed between recording and replay; ctx.seed is not used."""

import random

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


SEED = 1234  # <- fault


@step(name="seed_constant_changed.shuffle_deck")
def shuffle_deck(ctx: StepContext, size: int) -> list[int]:
    cards = list(range(size))
    random.Random(SEED).shuffle(cards)  # <- fault
    return cards


flow = Workflow("seed_constant_changed", shuffle_deck.s(52))
CASE = Case(cause="seed_mismatch", also=("code_change",), edits=(Edit(old="SEED = 1234", new="SEED = 4321"),))
