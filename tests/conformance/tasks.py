"""The Celery app and the tasks of the conformance shapes.

Every task is an untouched Celery task that says nothing about this project; the one line that makes them steps
is `task_cls=WorkflowTask`. Each makes order and argument passing visible in what it returns, returns JSON only,
and needs nothing from outside, so a value can be compared between plain Celery and an engine.
"""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import Celery, Task, shared_task
from celery.canvas import chord, group

from aos_workflow import WorkflowTask

app = Celery("conformance", task_cls=WorkflowTask)
app.conf.update(task_serializer="json", result_serializer="json", accept_content=["json"])


def spell(value: Any) -> str:
    """A value as compact text: strings bare, lists in brackets, so that nesting and order stay readable."""
    if isinstance(value, list):
        return "[" + ",".join(spell(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{spell(value[key])}" for key in sorted(value)) + "}"
    return str(value)


# --- where a value starts -----------------------------------------------------------------------------------


@app.task
def const() -> int:
    """Always 7."""
    return 7


@shared_task
def start(name: str = "start") -> str:
    """Its own argument: the first step of most shapes."""
    return name


@app.task
def spread(n: int) -> list[int]:
    """[0, 1, ... n-1]: one step whose value is a list, which is not a group of n."""
    return list(range(n))


# --- what is passed where -----------------------------------------------------------------------------------


@shared_task
def ident(x: Any) -> Any:
    """What it was given."""
    return x


@app.task
def tag(x: Any, name: str) -> str:
    """`name(x)`: a chain reads from the inside out, a list shows its order."""
    return f"{name}({spell(x)})"


@app.task
def note(*args: Any, **kwargs: Any) -> str:
    """Its arguments as text, whatever they are: fits behind anything."""
    named = [f"{key}={spell(kwargs[key])}" for key in sorted(kwargs)]
    return "<" + ",".join([*map(spell, args), *named]) + ">"


@app.task
def pack(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Exactly what arrived: {"args": [...], "kwargs": {...}}."""
    return {"args": list(args), "kwargs": kwargs}


@app.task
def add(a: Any, b: Any) -> Any:
    """a + b."""
    return a + b


@app.task
def sub(a: int, b: int) -> int:
    """a - b: shows which argument came first."""
    return a - b


@app.task
def scale(x: int, factor: int = 10) -> int:
    """x * factor, with a default."""
    return x * factor


@app.task
def join(x: Any, *, sep: str = "-", times: int = 2) -> str:
    """x repeated, with keyword-only parameters."""
    return sep.join([spell(x)] * times)


@app.task
def total(xs: list[int]) -> int:
    """The sum of one list."""
    return sum(xs)


@shared_task
def size(xs: list[Any]) -> int:
    """How many members one list has: 1 and a scalar are not the same."""
    return len(xs)


# --- what a value may be ------------------------------------------------------------------------------------


@app.task
def nothing(*args: Any) -> None:
    """None, whatever it was given."""


@app.task
def twice(x: Any) -> list[Any]:
    """[x, x]."""
    return [x, x]


@shared_task
def record(x: Any) -> dict[str, Any]:
    """{"value": x, "kind": the JSON type it arrived as}."""
    return {"value": x, "kind": type(x).__name__}


@app.task
def couple(a: Any, b: Any) -> tuple[Any, Any]:
    """(a, b), a tuple: plain Celery's JSON makes a list of it on the way, eager Celery does not."""
    return (a, b)


# --- bound to the task, and shapes known only at run time ---------------------------------------------------


@app.task(bind=True)
def whoami(self: Task[Any, Any], *args: Any) -> dict[str, Any]:
    """The task's own short name and what it received; `self` is no argument."""
    return {"task": self.name.rsplit(".", 1)[-1], "args": list(args)}


@app.task(bind=True, max_retries=5, default_retry_delay=0)
def third_time(self: Task[Any, Any], x: Any) -> dict[str, Any]:
    """Succeeds at its third attempt and says so."""
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return {"value": x, "retries": self.request.retries}


@app.task(autoretry_for=(ZeroDivisionError,), retry_backoff=False, default_retry_delay=0, max_retries=4, bind=True)
def eventually(self: Task[Any, Any], x: int) -> float:
    """Divides by zero once, then does not."""
    quotient: float = x / self.request.retries
    return quotient


@app.task(bind=True)
def become_task(self: Task[Any, Any], x: Any) -> Any:
    """Replaced by one task."""
    return self.replace(tag.s(x, "became"))


@app.task(bind=True)
def become_chain(self: Task[Any, Any], x: Any) -> Any:
    """Replaced by a chain of two."""
    return self.replace(tag.s(x, "one") | tag.s("two"))


@app.task(bind=True)
def become_group(self: Task[Any, Any], n: int) -> Any:
    """Replaced by a group of n, n known only now: its value is the list."""
    return self.replace(group(tag.s(i, "member") for i in range(n)))


@app.task(bind=True)
def become_chord(self: Task[Any, Any], n: int) -> Any:
    """Replaced by a map over n and its sum."""
    return self.replace(chord([scale.s(i) for i in range(n)], total.s()))


@app.task(bind=True)
def countdown(self: Task[Any, Any], n: int, seen: list[int]) -> Any:
    """A loop: replaced by itself until n is 0."""
    if n == 0:
        return seen
    return self.replace(countdown.s(n - 1, [*seen, n]))
