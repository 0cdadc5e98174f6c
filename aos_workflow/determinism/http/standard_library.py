"""Capture of http.client, and with it of urllib.request, xmlrpc.client and whatever else stands on it.

While a step is captured, a connection gathers its request instead of sending it; it is sent (or, in
replay, looked up) when it is complete: at the end of ``request()``, or in ``getresponse()`` for who writes
it piece by piece with ``putrequest()``, ``endheaders()`` and ``send()``. So errors of connecting and
sending come out of the same call live as in replay. A body beyond LIMIT_BYTES is not gathered: the request
is named by what is written of it by then, and the rest is sent as it comes.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator
from typing import Any, cast

from aos_workflow.clock import monotonic_s
from aos_workflow.determinism.http.arrival import gate
from aos_workflow.determinism.http.exchange import (
    LIMIT_BYTES,
    Asked,
    BodyDigest,
    absolute_url,
    answer_of,
    ask_by_digest,
    capturing,
    inside,
    recall,
)
from aos_workflow.determinism.http.stream import keep
from aos_workflow.determinism.http.wire import rebuild, receive, unchunked
from aos_workflow.determinism.patching import Patches
from aos_workflow.journal import EffectJournal

_DRAFT = "_aos_draft"
_IDLE = "Idle"  # http.client._CS_IDLE


class Draft:
    """A request that is being written, and what became of it."""

    def __init__(self, journal: EffectJournal, connection: http.client.HTTPConnection, method: str, url: str) -> None:
        self.journal = journal
        self.method = method
        self.url = _url(connection, url)
        self.written: list[bytes] = []
        self._size = 0
        self.began_s = monotonic_s()
        self.asked: Asked | None = None
        self.exchange: dict[str, Any] | None = None
        self.is_sending = False

    @property
    def is_open(self) -> bool:
        return self.asked is None

    def write(self, piece: bytes) -> None:
        self.written.append(piece)
        self._size += len(piece)

    @property
    def is_full(self) -> bool:
        """Enough is written to name the request; the rest of it is not held in memory."""
        return self._size > LIMIT_BYTES

    def finish(self) -> Asked:
        head, _, beginning = (self.written[0] if self.written else b"").partition(b"\r\n\r\n")
        fields = dict(_fields(head))
        body = [beginning, *self.written[1:]]
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = [unchunked(b"".join(body))]
        digest = BodyDigest(fields)
        for piece in body:
            digest.update(piece)
        self.asked = ask_by_digest(self.method, self.url, digest.hex(), fields)
        return self.asked


def patch(patches: Patches) -> None:
    """Patch the two connection classes of http.client."""
    connection = http.client.HTTPConnection
    gate(patches, connection, "connect", _connect)
    gate(patches, connection, "putrequest", _putrequest)
    gate(patches, connection, "send", _send)
    gate(patches, connection, "request", _request)
    gate(patches, connection, "getresponse", _getresponse)
    if secure := getattr(http.client, "HTTPSConnection", None):  # Python may be built without ssl
        gate(patches, secure, "connect", _connect)


def _connect(original: Any, connection: Any) -> None:
    journal = capturing()
    if journal is None or not journal.is_replay:
        original(connection)


def _putrequest(original: Any, connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> None:
    journal = capturing()
    connection.__dict__.pop(_DRAFT, None)
    original(connection, method, url, *args, **kwargs)
    if journal is not None:
        connection.__dict__[_DRAFT] = Draft(journal, connection, method, url)


def _send(original: Any, connection: Any, data: Any) -> None:
    draft: Draft | None = connection.__dict__.get(_DRAFT)
    if draft is None or draft.is_sending:
        original(connection, data)
        return
    for piece in _pieces(data, connection.blocksize):
        if draft.is_open:
            draft.write(piece)
            if draft.is_full:
                _deliver(connection, draft)
        elif draft.exchange is None:
            _pass_on(connection, draft, piece)


def _request(original: Any, connection: Any, *args: Any, **kwargs: Any) -> None:
    original(connection, *args, **kwargs)
    draft = connection.__dict__.get(_DRAFT)
    if draft is not None and draft.is_open:
        _deliver(connection, draft)


def _deliver(connection: Any, draft: Draft) -> None:
    """Send what is written of a request, or look it up. Raises what connecting and sending raised."""
    asked = draft.finish()
    if draft.journal.is_replay:
        draft.exchange = recall(draft.journal, asked)
        if draft.exchange.get("at") == "request":
            answer_of(draft.exchange, http.client.HTTPException)
        return
    written, draft.written = draft.written, []
    for data in written if draft.is_full else [b"".join(written)]:
        _pass_on(connection, draft, data)


def _pass_on(connection: Any, draft: Draft, data: bytes) -> None:
    assert draft.asked is not None
    draft.is_sending = True
    try:
        with inside():
            connection.send(data)
    except Exception as error:
        keep(draft.journal, draft.asked.raised(error, at="request"))
        raise
    finally:
        draft.is_sending = False


def _getresponse(original: Any, connection: Any) -> http.client.HTTPResponse:
    draft = connection.__dict__.get(_DRAFT)
    if draft is None or connection._HTTPConnection__state != "Request-sent":  # the original knows what is wrong
        return cast("http.client.HTTPResponse", original(connection))
    if draft.is_open:
        _deliver(connection, draft)
    del connection.__dict__[_DRAFT]
    if draft.exchange is not None:
        return _replayed(connection, draft)
    assert draft.asked is not None
    try:
        with inside():
            response = original(connection)
    except Exception as error:
        keep(draft.journal, draft.asked.raised(error, at="response"))
        raise
    return receive(response, draft.asked, draft.journal, draft.began_s)


def _replayed(connection: Any, draft: Draft) -> http.client.HTTPResponse:
    assert draft.exchange is not None
    try:
        answer = answer_of(draft.exchange, http.client.HTTPException)
    except ConnectionError:
        connection.close()  # as the original does
        raise
    connection._HTTPConnection__state = _IDLE  # ready for the next request, as after the original
    return rebuild(answer, draft.method, connection.response_class)


def _url(connection: Any, target: str) -> str:
    scheme = "https" if connection.default_port == 443 else "http"
    tunnelled = getattr(connection, "_tunnel_host", None)
    host, port = (tunnelled, connection._tunnel_port) if tunnelled else (connection.host, connection.port)
    return absolute_url(scheme, host, port, target or "/")


def _pieces(data: Any, block_size: int) -> Iterator[bytes]:
    if hasattr(data, "read"):
        while block := data.read(block_size):
            yield block.encode("iso-8859-1") if isinstance(block, str) else bytes(block)
        return
    try:
        yield data if isinstance(data, bytes) else bytes(memoryview(data))
    except TypeError:
        if not isinstance(data, Iterable) or isinstance(data, str):
            raise TypeError(
                f"data should be a bytes-like object or an iterable, got {type(data)!r}"
            ) from None  # what the original says
        for piece in data:
            yield bytes(piece)


def _fields(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        yield name.decode("latin-1").strip().lower(), value.decode("latin-1").strip()
