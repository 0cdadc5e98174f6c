"""An http.client response that is recorded, and one built from the recording.

A body of known length is read to its end before the step sees it; any other is recorded as the step reads it.

The rebuilt response is parsed from the bytes that a server would send for the recorded answer, so it
behaves in every way as a response of http.client does: partial reads, chunked bodies, a body that ends
too early. It is what the step gets live as well.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from aos_workflow.determinism.http.exchange import Answer, Asked, why_unrecorded
from aos_workflow.determinism.http.raised import describe, revive
from aos_workflow.determinism.http.stream import Tape, keep, since
from aos_workflow.journal import EffectJournal

ELAPSED = "aos_elapsed_s"
"""Attribute of a rebuilt response: the recorded duration, seconds."""

_BLOCK = 1 << 16
_VERSIONS = {9: "HTTP/0.9", 10: "HTTP/1.0", 11: "HTTP/1.1"}


def receive(
    response: http.client.HTTPResponse, asked: Asked, journal: EffectJournal, began_s: float
) -> http.client.HTTPResponse:
    """Record a live response and return one that behaves as in replay; or let it pass, and record why."""
    answer = _head(response)
    fields = {name.lower(): value for name, value in answer.headers}
    why = why_unrecorded(answer.status, fields, has_body=_has_body(answer.status, asked.method))
    if why is not None:
        keep(journal, asked.unrecorded(why))
        return response
    kind = type(response)
    if response.length is None and not response.isclosed():
        return _taped(response, Tape(journal, asked, replace(answer, elapsed_s=since(began_s))), answer, asked.method)
    answer = replace(_with_body(response, answer), elapsed_s=since(began_s))
    keep(journal, answer.document(asked))
    return rebuild(answer, asked.method, kind)


def _taped(response: http.client.HTTPResponse, tape: Tape, answer: Answer, method: str) -> http.client.HTTPResponse:
    """A response whose body comes as the live one's does, and is recorded meanwhile."""

    def parts() -> Iterator[bytes]:
        try:
            while part := response.read1(_BLOCK):  # what there is, without waiting for more
                tape.add(part)
                yield part
        except http.client.IncompleteRead:
            tape.end(is_cut=True)
        except Exception as error:
            tape.end(error=error)
            raise
        else:
            tape.end()

    def close() -> None:
        tape.end(is_cut=True)
        response.close()

    wire = _Wire(_head_bytes(answer), _framed(parts(), answer, lambda: tape.is_cut), close)
    taped = _parsed(wire, method, type(response))
    setattr(taped, ELAPSED, tape.elapsed_s)
    return taped


def rebuild(
    answer: Answer, method: str, kind: type[http.client.HTTPResponse] = http.client.HTTPResponse
) -> http.client.HTTPResponse:
    """A response of http.client with this answer."""
    response = _parsed(_Wire(_head_bytes(answer), _framed(_body(answer), answer, lambda: answer.is_cut)), method, kind)
    setattr(response, ELAPSED, answer.elapsed_s)
    return response


def unchunked(body: bytes) -> bytes:
    """The content of a body in chunked transfer encoding; the body itself if it is not well formed."""
    content: list[bytes] = []
    rest = body
    while rest:
        size_line, _, rest = rest.partition(b"\r\n")
        try:
            size = int(size_line.partition(b";")[0], 16)
        except ValueError:
            return body
        if size == 0:
            return b"".join(content)
        content.append(rest[:size])
        rest = rest[size + 2 :]
    return body


def _has_body(status: int, method: str) -> bool:
    return method.upper() != "HEAD" and status >= 200 and status not in (204, 304)


def _head(response: http.client.HTTPResponse) -> Answer:
    return Answer(
        status=response.status,
        reason=response.reason,
        version=_VERSIONS.get(response.version, "HTTP/1.1"),
        headers=tuple((name, str(value)) for name, value in response.msg.items()),
        body=b"",
    )


def _with_body(response: http.client.HTTPResponse, answer: Answer) -> Answer:
    """The answer with its body, whose length is known and within the limit."""
    parts: list[bytes] = []
    is_cut, broken = False, None
    try:
        while part := response.read(_BLOCK):
            parts.append(part)
    except http.client.IncompleteRead as error:
        parts.append(error.partial)
        is_cut = True
    except Exception as error:
        broken = describe(error)
    return replace(answer, body=b"".join(parts), is_cut=is_cut, broken=broken)


def _body(answer: Answer) -> Iterator[bytes]:
    yield from answer.parts()
    if answer.broken:
        raise revive(answer.broken, http.client.HTTPException)


def _framed(parts: Iterator[bytes], answer: Answer, is_cut: Callable[[], bool]) -> Iterator[bytes]:
    """The parts as the headers say that they are sent."""
    if (answer.header("transfer-encoding") or "").lower() != "chunked":
        yield from parts
        return
    for part in parts:
        yield b"%X\r\n%b\r\n" % (len(part), part)
    if not is_cut():
        yield b"0\r\n\r\n"


def _head_bytes(answer: Answer) -> bytes:
    lines = [f"{answer.version} {answer.status:03d} {answer.reason}", *(f"{n}: {v}" for n, v in answer.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _parsed(wire: _Wire, method: str, kind: type[http.client.HTTPResponse]) -> http.client.HTTPResponse:
    response = kind(_Plug(wire), method=method)  # type: ignore[arg-type]
    response.begin()
    return response


class _Wire(io.RawIOBase):
    """A server's bytes, as they come; what goes wrong on the way is raised by reading."""

    def __init__(self, head: bytes, parts: Iterator[bytes], on_close: Callable[[], None] | None = None) -> None:
        self._left = head
        self._parts = parts
        self._on_close = on_close

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = part
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


class _Plug:
    """As much of a socket as a response asks for."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._wire)
