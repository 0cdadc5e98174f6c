"""Modules imported by the step itself: files are opened, the answer does not depend on them."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="imports_in_the_body.colour")
def colour(red: float, green: float, blue: float) -> list[float]:
    import colorsys
    from fractions import Fraction

    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    return [round(hue, 6), round(lightness, 6), round(saturation, 6), float(Fraction(1, 3))]


flow = Workflow("imports_in_the_body", colour.s(0.2, 0.4, 0.6))
CASE = clean()
