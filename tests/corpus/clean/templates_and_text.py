"""Templates, wrapping, unicode and formatting."""

import string
import textwrap
import unicodedata

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


LETTER = string.Template("Dear $name, you owe $amount.")


@shared_task(name="templates_and_text.letter")
def letter(name: str, cents: int) -> dict:
    text = LETTER.substitute(name=unicodedata.normalize("NFC", name), amount=f"{cents / 100:,.2f} €")
    return {"lines": textwrap.wrap(text, 20), "folded": name.casefold(), "width": f"{name:>12}|"}


flow = Workflow("templates_and_text", letter.s("Zoë Müller", 1234567))
CASE = clean()
