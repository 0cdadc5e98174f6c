"""Capture of httpx, sync and async.

Patched are ``HTTPTransport`` and ``AsyncHTTPTransport``, which are what a client uses unless it is given a
transport of its own: a MockTransport, or an ASGI app in the same process, is left alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx

from aos_workflow.clock import monotonic_s
from aos_workflow.determinism.http.arrival import gate
from aos_workflow.determinism.http.exchange import (
    Answer,
    Asked,
    Prefix,
    answer_of,
    ask,
    capturing,
    inside,
    recall,
    why_unrecorded,
)
from aos_workflow.determinism.http.raised import describe, revive
from aos_workflow.determinism.http.stream import Tape, keep, since
from aos_workflow.determinism.patching import Patches
from aos_workflow.journal import EffectJournal


class Recorded(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an answer. Its response's ``elapsed`` is the recorded duration."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.response: httpx.Response | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.parts()
        if self._answer.broken:
            raise revive(self._answer.broken, httpx.TransportError)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        if self.response is not None:  # a client has just written there what it measured
            self.response.elapsed = timedelta(seconds=self._answer.elapsed_s)

    async def aclose(self) -> None:
        self.close()


class Taped(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A live body of unknown length: recorded as it is read."""

    def __init__(self, stream: Any, tape: Tape) -> None:
        self._stream = stream
        self._tape = tape
        self.response: httpx.Response | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._stream:
                self._tape.add(part)
                yield part
        except Exception as error:
            self._tape.end(error=error)
            raise
        self._tape.end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                self._tape.add(part)
                yield part
        except Exception as error:
            self._tape.end(error=error)
            raise
        self._tape.end()

    def close(self) -> None:
        self._over()
        self._stream.close()

    async def aclose(self) -> None:
        self._over()
        await self._stream.aclose()

    def _over(self) -> None:
        self._tape.end(is_cut=True)
        if self.response is not None and self._tape.elapsed_s:  # what is recorded, not what the client measured
            self.response.elapsed = timedelta(seconds=self._tape.elapsed_s)


class Chained(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is sent: what was read of it already, and the rest as it comes."""

    def __init__(self, parts: list[bytes], rest: Any) -> None:
        self._parts = parts
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        async for part in self._rest:
            yield part


class Receiving:
    """One live exchange: reads what the transport answers, records it and says what the step gets."""

    def __init__(self, journal: EffectJournal, asked: Asked) -> None:
        self._journal = journal
        self._asked = asked
        self._began_s = monotonic_s()
        self.parts: list[bytes] = []
        self.broken: dict[str, Any] | None = None

    def failed(self, error: Exception) -> None:
        keep(self._journal, self._asked.raised(error))

    def passes(self, response: httpx.Response) -> bool:
        """Is the answer one that is not even read? Then that is recorded."""
        has_body = self._asked.method != "HEAD" and response.status_code not in (204, 304)
        why = why_unrecorded(response.status_code, response.headers, has_body=has_body)
        if why is not None:
            keep(self._journal, self._asked.unrecorded(why))
        return why is not None

    def taped(self, response: httpx.Response) -> httpx.Response | None:
        """The response that is recorded as it is read; None if its length is known: then it is read at once."""
        if response.headers.get("content-length", "").isdecimal() and "transfer-encoding" not in response.headers:
            return None
        tape = Tape(self._journal, self._asked, self._head(response), lambda: since(self._began_s))
        stream = Taped(response.stream, tape)
        stream.response = httpx.Response(
            response.status_code, headers=response.headers.raw, stream=stream, extensions=response.extensions
        )
        return stream.response

    def recorded(self, response: httpx.Response) -> httpx.Response:
        answer = replace(
            self._head(response), body=b"".join(self.parts), broken=self.broken, elapsed_s=since(self._began_s)
        )
        keep(self._journal, answer.document(self._asked))
        return rebuild(answer)

    def _head(self, response: httpx.Response) -> Answer:
        return Answer(
            status=response.status_code,
            reason=response.reason_phrase,
            version=response.http_version,
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw),
            body=b"",
        )


def patch(patches: Patches) -> None:
    """Patch the two transports of httpx."""
    gate(patches, httpx.HTTPTransport, "handle_request", _handle_request)
    gate(patches, httpx.AsyncHTTPTransport, "handle_async_request", _handle_async_request)


def rebuild(answer: Answer) -> httpx.Response:
    """A response as a transport returns it, with this answer."""
    stream = Recorded(answer)
    stream.response = httpx.Response(
        answer.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers],
        stream=stream,
        extensions={
            "http_version": answer.version.encode("ascii"),
            "reason_phrase": answer.reason.encode("latin-1", "replace"),
        },
    )
    return stream.response


def _handle_request(original: Any, transport: Any, request: httpx.Request) -> httpx.Response:
    journal = capturing()
    if journal is None:
        response: httpx.Response = original(transport, request)
        return response
    asked, rest = _asked(request)
    if journal.is_replay:
        answer = answer_of(recall(journal, asked), httpx.TransportError)
        for _ in rest or ():  # live it was read to its end
            pass
        return rebuild(answer)
    receiving = Receiving(journal, asked)
    with inside():
        try:
            response = original(transport, request)
        except Exception as error:
            receiving.failed(error)
            raise
        if receiving.passes(response):
            return response
        if (taped := receiving.taped(response)) is not None:
            return taped
        try:
            for part in response.stream:  # type: ignore[union-attr]
                receiving.parts.append(part)
        except Exception as error:
            receiving.broken = describe(error)
        except BaseException:
            response.stream.close()  # type: ignore[union-attr]
            raise
        response.stream.close()  # type: ignore[union-attr]
    return receiving.recorded(response)


async def _handle_async_request(original: Any, transport: Any, request: httpx.Request) -> httpx.Response:
    journal = capturing()
    if journal is None:
        response: httpx.Response = await original(transport, request)
        return response
    asked, rest = await _asked_async(request)
    if journal.is_replay:
        answer = answer_of(recall(journal, asked), httpx.TransportError)
        async for _ in rest or _nothing():  # live it was read to its end
            pass
        return rebuild(answer)
    receiving = Receiving(journal, asked)
    with inside():
        try:
            response = await original(transport, request)
        except Exception as error:
            receiving.failed(error)
            raise
        if receiving.passes(response):
            return response
        if (taped := receiving.taped(response)) is not None:
            return taped
        try:
            async for part in response.stream:  # type: ignore[union-attr]
                receiving.parts.append(part)
        except Exception as error:
            receiving.broken = describe(error)
        except BaseException:  # cancelled
            await response.stream.aclose()  # type: ignore[union-attr]
            raise
        await response.stream.aclose()  # type: ignore[union-attr]
    return receiving.recorded(response)


def _asked(request: httpx.Request) -> tuple[Asked, Iterator[bytes] | None]:
    """Name the request. Of a long body that can be read only once only the beginning has been read: then the rest."""
    if not hasattr(request, "_content"):
        prefix, pieces = Prefix(), iter(request.stream)  # type: ignore[arg-type]
        for piece in pieces:
            prefix.add(piece)
            if prefix.is_full:
                request.stream = Chained(prefix.parts, pieces)
                return prefix.ask(request.method, str(request.url), _fields(request)), pieces
        request.stream = httpx.ByteStream(b"".join(prefix.parts))
    return ask(request.method, str(request.url), request.read(), _fields(request)), None


async def _asked_async(request: httpx.Request) -> tuple[Asked, AsyncIterator[bytes] | None]:
    if not hasattr(request, "_content"):
        prefix, pieces = Prefix(), aiter(request.stream)  # type: ignore[arg-type]
        async for piece in pieces:
            prefix.add(piece)
            if prefix.is_full:
                request.stream = Chained(prefix.parts, pieces)
                return prefix.ask(request.method, str(request.url), _fields(request)), pieces
        request.stream = httpx.ByteStream(b"".join(prefix.parts))
    return ask(request.method, str(request.url), await request.aread(), _fields(request)), None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _fields(request: httpx.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
