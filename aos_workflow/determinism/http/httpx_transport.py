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
    LIMIT_BYTES,
    Answer,
    Asked,
    answer_of,
    ask,
    capturing,
    inside,
    recall,
    too_long,
    why_unrecorded,
)
from aos_workflow.determinism.http.raised import describe, revive
from aos_workflow.determinism.patching import Patches
from aos_workflow.journal import EffectJournal


class Recorded(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an answer, in one piece. Its response's ``elapsed`` is the recorded duration."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.response: httpx.Response | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self._answer.body:
            yield self._answer.body
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


class Beginning(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body too long to be recorded: what was read of it already, and the rest as it comes."""

    def __init__(self, parts: list[bytes], rest: Any, stream: Any) -> None:
        self._parts = parts
        self._rest = rest
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        async for part in self._rest:
            yield part

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Receiving:
    """One live exchange: reads what the transport answers, records it and says what the step gets."""

    def __init__(self, journal: EffectJournal, asked: Asked) -> None:
        self._journal = journal
        self._asked = asked
        self._began_s = monotonic_s()
        self.parts: list[bytes] = []
        self.broken: dict[str, Any] | None = None

    @property
    def is_too_long(self) -> bool:
        return sum(map(len, self.parts)) > LIMIT_BYTES

    def failed(self, error: Exception) -> None:
        self._journal.keep_exchange(self._asked.raised(error))

    def passes(self, response: httpx.Response) -> bool:
        """Is the answer one that is not even read? Then that is recorded."""
        has_body = self._asked.method != "HEAD" and response.status_code not in (204, 304)
        why = why_unrecorded(response.status_code, response.headers, has_body=has_body)
        if why is not None:
            self._journal.keep_exchange(self._asked.unrecorded(why))
        return why is not None

    def passed_on(self, response: httpx.Response, rest: Any) -> httpx.Response:
        self._journal.keep_exchange(self._asked.unrecorded(too_long()))
        stream = Beginning(self.parts, rest, response.stream)
        return httpx.Response(
            response.status_code, headers=response.headers.raw, stream=stream, extensions=response.extensions
        )

    def recorded(self, response: httpx.Response) -> httpx.Response:
        answer = Answer(
            status=response.status_code,
            reason=response.reason_phrase,
            version=response.http_version,
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw),
            body=b"".join(self.parts),
            broken=self.broken,
        )
        answer = replace(answer, elapsed_s=round(monotonic_s() - self._began_s, 6))
        self._journal.keep_exchange(answer.document(self._asked))
        return rebuild(answer)


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
    asked = _asked(request, request.read())
    if journal.is_replay:
        return rebuild(answer_of(recall(journal, asked), httpx.TransportError))
    receiving = Receiving(journal, asked)
    with inside():
        try:
            response = original(transport, request)
        except Exception as error:
            receiving.failed(error)
            raise
        if receiving.passes(response):
            return response
        rest = iter(response.stream)  # type: ignore[arg-type]
        try:
            for part in rest:
                receiving.parts.append(part)
                if receiving.is_too_long:
                    return receiving.passed_on(response, rest)
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
    asked = _asked(request, await request.aread())
    if journal.is_replay:
        return rebuild(answer_of(recall(journal, asked), httpx.TransportError))
    receiving = Receiving(journal, asked)
    with inside():
        try:
            response = await original(transport, request)
        except Exception as error:
            receiving.failed(error)
            raise
        if receiving.passes(response):
            return response
        rest = aiter(response.stream)  # type: ignore[arg-type]
        try:
            async for part in rest:
                receiving.parts.append(part)
                if receiving.is_too_long:
                    return receiving.passed_on(response, rest)
        except Exception as error:
            receiving.broken = describe(error)
        except BaseException:  # cancelled
            await response.stream.aclose()  # type: ignore[union-attr]
            raise
        await response.stream.aclose()  # type: ignore[union-attr]
    return receiving.recorded(response)


def _asked(request: httpx.Request, body: bytes) -> Asked:
    return ask(request.method, str(request.url), body, request.headers.get("content-type"))
