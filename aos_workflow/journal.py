"""EffectJournal: what one attempt of a step learned from outside. Recorded live, served back in replay.

    effects     ctx.effect(name, ...): a value by name
    ambient     captured time and entropy: the n-th value of a source, by "source@module"
    http        captured HTTP: the n-th answer to a request, by the request's key
    session     the step asked for ctx.session: it lives in the database, so its output is served whole
    full        more was captured than a journal takes, so nothing of it is kept: its output is served whole

Live, a journal starts empty and fills. In replay it is full and only answers; what it is asked and
does not hold is a ``Breach``: noted, and never fetched from outside.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aos_workflow.canonical import encode, parse, render, revive
from aos_workflow.errors import UndeclaredEffect, VersionMismatch

#: The end of a key whose name was used before; a name that itself ends so is always numbered.
_NUMBERED = re.compile(r"#\d+$")
_PARTS = ("ambient", "effects", "full", "http", "session")
#: How much captured material a journal takes, bytes; about what a captured number takes in its text.
LIMIT_BYTES = 8 * 1024 * 1024
VALUE_BYTES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """Something a sealed step wanted from outside. ``location`` is "file:line" in the user's code, if known."""

    cause: str
    what: str
    location: str | None = None


class EffectJournal:
    """The journal of one attempt. Threads of one step may share it."""

    def __init__(self, recorded: str | None = None, *, is_replay: bool = False) -> None:
        """``recorded`` is the text of a journal. Raises VersionMismatch for parts this code does not know."""
        document = parse(recorded) if recorded else {}
        if not isinstance(document, Mapping) or not set(document) <= set(_PARTS):
            raise VersionMismatch(
                f"a recorded journal has the parts {sorted(document)}, this code reads {list(_PARTS)}",
                fix="use the version that wrote it",
            )
        self.is_replay = is_replay
        self.effects: dict[str, Any] = dict(document.get("effects", {}))
        self.ambient: dict[str, list[Any]] = {key: list(values) for key, values in document.get("ambient", {}).items()}
        self.http: list[dict[str, Any]] = list(document.get("http", ()))
        self.used_session = bool(document.get("session", False))
        self.breaches: list[Breach] = []
        #: Calls an effect's function. While a capture is on it steps aside for it: an effect is recorded whole.
        self.outside: Callable[[Callable[[], Any]], Any] = _at_once
        #: It had no room for all that was captured, so no replay can answer from it: the output is served whole.
        self.is_full = bool(document.get("full", False))
        self._left_bytes = LIMIT_BYTES
        self._served: dict[str, int] = {}
        self._lock = threading.RLock()  # the collector may close a stream in the middle of a draw

    def perform(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The recorded value of the n-th effect of this name, or the function's, recorded.

        Raises NotCanonical if the value cannot be recorded, UndeclaredEffect in replay if none was.
        """
        count = self._next(f"effect {name}")
        key = name if count == 0 and not _NUMBERED.search(name) else f"{name}#{count + 1}"
        if key not in self.effects:
            if self.is_replay:
                raise self.breach("external_call", f"effect {key!r}")
            value = self.outside(lambda: function(*args, **kwargs))
            self.effects[key] = parse(encode(value, what=f"the value of effect {key!r}"))
        return revive(self.effects[key])

    def draw(self, series: str, live: Callable[[], Any], beyond: Callable[[], Any]) -> Any:
        """The next value (plain JSON) of a captured source: live from ``live``, in replay as recorded.

        A replay that asks for more values than there are gets ``beyond()``; that is noted, not refused.
        """
        with self._lock:
            if not self.is_replay:
                value = live()
                if self._affords(VALUE_BYTES + len(value) if isinstance(value, str) else VALUE_BYTES):
                    self.ambient.setdefault(series, []).append(value)
                return value
            values = self.ambient.setdefault(series, [])
            count = self._served[series] = self._served.get(series, 0) + 1
            if count <= len(values):
                return values[count - 1]
        self.note("code_change", f"more calls of {series} than were recorded")
        return beyond()

    def keep_exchange(self, exchange: Mapping[str, Any]) -> bool:
        """Record one HTTP exchange: plain JSON with at least a "key", which says what was asked.

        False if the journal has no room for it any more.
        """
        body = exchange.get("body")
        size_bytes = 500 + (len(body) if isinstance(body, str) else len(str(body)))
        with self._lock:
            if self._affords(size_bytes):
                self.http.append(dict(exchange))
        return not self.is_full

    def recorded_exchange(self, key: str) -> dict[str, Any]:
        """The n-th recorded exchange of this key. Raises UndeclaredEffect if there is none."""
        count = self._next(f"http {key}")
        matching = [exchange for exchange in self.http if exchange["key"] == key]
        if count >= len(matching):
            raise self.breach("external_call", f"HTTP request {key}")
        return matching[count]

    def _affords(self, size_bytes: int) -> bool:
        """Is there room for so much more? Once there is not, nothing more is recorded."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            self.is_full = True
        return not self.is_full

    def note(self, cause: str, what: str) -> None:
        """Remember that a replay wanted what was not recorded; the same thing is remembered once."""
        if not any((known.cause, known.what) == (cause, what) for known in self.breaches):
            self.breaches.append(Breach(cause=cause, what=what, location=_location()))

    def breach(self, cause: str, what: str) -> UndeclaredEffect:
        """Note it, and make the error to raise."""
        self.note(cause, what)
        where = next(known.location for known in self.breaches if (known.cause, known.what) == (cause, what))
        return UndeclaredEffect(
            f"the replay wanted {what}, which was not recorded" + (f" (at {where})" if where else ""),
            fix='let the step get it through ctx.effect("name", function), or declare it @step(effect=True)',
            cause=cause,
            what=what,
            location=where,
        )

    def text(self) -> str | None:
        """The journal as canonical text, or None when it is empty."""
        is_served = self.is_full or self.used_session  # then nobody will ask what was captured on the way
        document = {
            "effects": self.effects,
            "ambient": {} if is_served else {series: values for series, values in self.ambient.items() if values},
            "http": [] if is_served else self.http,
            "session": self.used_session,
            "full": self.is_full,
        }
        filled = {part: content for part, content in document.items() if content}
        return render(filled, what="the journal of a step") if filled else None

    def _next(self, counter: str) -> int:
        with self._lock:
            count = self._served.get(counter, 0)
            self._served[counter] = count + 1
        return count


def _at_once(function: Callable[[], Any]) -> Any:
    return function()


def _location() -> str | None:
    """Where the user's code is: the nearest frame that is neither this package's nor the standard library's."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module != "aos_workflow" and module not in sys.stdlib_module_names and module not in _CARRIERS:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


#: Libraries through which a step reaches outside: the interesting line is the one that called them.
_CARRIERS = frozenset(
    {
        "anyio", "boto3", "botocore", "celery", "h11", "httpcore", "httpx", "kombu", "psycopg2", "redis", "requests",
        "sqlalchemy", "urllib3",
    }
)  # fmt: skip
