"""The nouns of captured HTTP, and their form in the journal.

    Asked       method, masked URL, and the key by which a replay finds the answer
    Answer      status, headers and the whole body as sent (a compressed body stays compressed)

An exchange in the journal is one of
    {"key", "request", "status", "reason", "version", "headers", "body", "elapsed_s", "pieces"?,
     "cut"?, "broken"?}
    {"key", "request", "raised": {"type", "message", ...}, ...}
    {"key", "request", "unrecorded": why}
"body" is text, or {"base64": ...} for what is not UTF-8. "cut": the body ended before its time, or
the step closed it. "pieces": the sizes in which it came, if the step may have seen them.
"broken": reading it ended with this error.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aos_workflow.determinism.captured import captured
from aos_workflow.determinism.http.masks import masked_header, masked_url
from aos_workflow.determinism.http.raised import describe, revive
from aos_workflow.journal import EffectJournal

LIMIT_BYTES = 1 << 20
"""Bodies of answers up to this size are recorded; longer ones pass through, and cannot be replayed."""

_ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")
_BOUNDARY = re.compile(r'^\s*multipart/.*?;\s*boundary="?([^";,]+)', re.IGNORECASE | re.DOTALL)
_SELECTING = ("accept", "range")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_is_inside: ContextVar[bool] = ContextVar("aos_workflow_inside_http", default=False)


def capturing() -> EffectJournal | None:
    """The journal that HTTP of this moment belongs to; None outside of a step or after it, and inside of a capture."""
    now = captured.get()
    return now.journal if now is not None and now.http and not now.is_over and not _is_inside.get() else None


@contextmanager
def inside() -> Iterator[None]:
    """What happens in here belongs to an exchange that is already being captured, one library above."""
    token = _is_inside.set(True)
    try:
        yield
    finally:
        _is_inside.reset(token)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request without its secrets.

    ``key`` is "METHOD url#first 16 hex digits of the body's SHA-256", then the headers that select content,
    if there are any: " range: bytes=0-99".
    """

    method: str
    url: str
    key: str

    @property
    def document(self) -> dict[str, Any]:
        return {"key": self.key, "request": {"method": self.method, "url": self.url}}

    def unrecorded(self, why: str) -> dict[str, Any]:
        return {**self.document, "unrecorded": why}

    def raised(self, error: Exception, **more: Any) -> dict[str, Any]:
        return {**self.document, "raised": describe(error), **more}


def ask(method: str, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Asked:
    """Name a request; ``headers`` have their names in lower case."""
    digest = BodyDigest(headers)
    digest.update(body)
    return ask_by_digest(method, url, digest.hex(), headers)


def ask_by_digest(method: str, url: str, body_sha256: str, headers: Mapping[str, str] | None = None) -> Asked:
    """Name a request by the SHA-256 of its body, in hex."""
    method, url = method.upper(), masked_url(url)
    selected = "".join(
        f" {name}: {value.strip()}"
        for name in _SELECTING
        if (value := (headers or {}).get(name)) and value.strip() != "*/*"
    )
    return Asked(method=method, url=url, key=f"{method} {url}#{body_sha256[:16]}{selected}")


class BodyDigest:
    """The SHA-256 of a body. A multipart body counts without its boundary, which is drawn anew each time."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._sha256 = hashlib.sha256()
        found = _BOUNDARY.match((headers or {}).get("content-type", ""))
        self._boundary = found[1].strip().encode("latin-1", "replace") if found else b""
        self._tail = b""

    def update(self, piece: bytes) -> None:
        if not self._boundary:
            self._sha256.update(piece)
            return
        *before, last = (self._tail + piece).split(self._boundary)
        for part in before:
            self._sha256.update(part + b"boundary")
        held = min(len(last), len(self._boundary) - 1)  # may be the beginning of a boundary
        self._sha256.update(last[: len(last) - held])
        self._tail = last[len(last) - held :]

    def hex(self) -> str:
        whole = self._sha256.copy()
        whole.update(self._tail)
        return whole.hexdigest()


class Prefix:
    """Names a body that can be read only once by its first LIMIT_BYTES: more of it is not held in memory.

    ``parts`` is what has been read of it; ``is_full`` says that this is enough.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        self.parts.append(part)
        self._size += len(part)

    @property
    def is_full(self) -> bool:
        return self._size > LIMIT_BYTES

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None) -> Asked:
        return ask(method, url, b"".join(self.parts)[:LIMIT_BYTES], headers)


def absolute_url(scheme: str, host: str, port: int | None, target: str) -> str:
    """The URL of a request to a server, or of one through a proxy, whose target is a URL already."""
    if "://" in target and not target.startswith("/"):
        return target
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    at = "" if port in (None, _DEFAULT_PORTS.get(scheme)) else f":{port}"
    return f"{scheme}://{name.lower()}{at}{target if target.startswith('/') else '/' + target}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A response, as sent. ``headers`` in their order, Latin-1 text; ``version`` like "HTTP/1.1"."""

    status: int
    reason: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    elapsed_s: float = 0.0
    pieces: tuple[int, ...] = ()
    is_cut: bool = False
    broken: Mapping[str, Any] | None = None

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known.lower() == name), None)

    def parts(self) -> Iterator[bytes]:
        """The body in its pieces."""
        at = 0
        for size in self.pieces:
            yield self.body[at : at + size]
            at += size
        if at < len(self.body):
            yield self.body[at:]

    def document(self, asked: Asked) -> dict[str, Any]:
        """The exchange for the journal: without secrets."""
        return {
            **asked.document,
            "status": self.status,
            "reason": self.reason,
            "version": self.version,
            "headers": [[name, masked_header(name, value)] for name, value in self.headers],
            "body": _body_text(self.body),
            "elapsed_s": self.elapsed_s,
            **({"pieces": list(self.pieces)} if len(self.pieces) > 1 else {}),
            **({"cut": True} if self.is_cut else {}),
            **({"broken": dict(self.broken)} if self.broken else {}),
        }

    @classmethod
    def of(cls, exchange: Mapping[str, Any]) -> Answer:
        """The answer of a recorded exchange."""
        body = exchange["body"]
        return cls(
            status=exchange["status"],
            reason=exchange["reason"],
            version=exchange["version"],
            headers=tuple((name, value) for name, value in exchange["headers"]),
            body=body.encode() if isinstance(body, str) else base64.b64decode(body["base64"]),
            elapsed_s=exchange["elapsed_s"],
            pieces=tuple(exchange.get("pieces", ())),
            is_cut=exchange.get("cut", False),
            broken=exchange.get("broken"),
        )


def recall(journal: EffectJournal, asked: Asked) -> dict[str, Any]:
    """The recorded exchange. Raises UndeclaredEffect if there is none, or none that could be recorded."""
    exchange = journal.recorded_exchange(asked.key)
    if "unrecorded" in exchange:
        raise journal.breach("external_call", f"HTTP request {asked.key} ({exchange['unrecorded']})")
    return exchange


def answer_of(exchange: Mapping[str, Any], fallback: type[Exception]) -> Answer:
    """The answer of a recalled exchange; raises what was raised."""
    if "raised" in exchange:
        raise revive(exchange["raised"], fallback)
    return Answer.of(exchange)


def why_unrecorded(status: int, headers: Mapping[str, str], *, has_body: bool = True) -> str | None:
    """Why an answer with these headers (names in lower case) is not even read; None if it is to be read."""
    if status == 101:
        return "the connection was switched to another protocol"
    length = headers.get("content-length")
    if has_body and length is None and headers.get("content-type", "").lower().lstrip().startswith(_ENDLESS):
        return "its answer is a stream without an end"
    if has_body and length is not None and length.isdecimal() and int(length) > LIMIT_BYTES:
        return too_long()
    return None


def too_long() -> str:
    """Why an answer that turned out to be too long is not recorded."""
    return f"its answer is longer than {LIMIT_BYTES} bytes"


def _body_text(body: bytes) -> str | dict[str, str]:
    if b"\0" not in body:  # PostgreSQL keeps no NUL in text
        try:
            return body.decode()
        except UnicodeDecodeError:
            pass
    return {"base64": base64.b64encode(body).decode("ascii")}
