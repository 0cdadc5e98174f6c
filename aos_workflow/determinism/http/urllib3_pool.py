"""Capture of urllib3 (1.26 and 2), and with it of requests, boto3 and whatever else stands on it.

Patched is the one method that performs one request on one connection: redirects, retries, the pool and
the wrapping of errors are above it and run as ever, live and in replay. In replay the pool hands out
connections that nobody opens.
"""

from __future__ import annotations

import http.client
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from urllib3 import connectionpool
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse
from urllib3.util.retry import Retry

from aos_workflow.clock import monotonic_s
from aos_workflow.determinism.http.arrival import gate
from aos_workflow.determinism.http.exchange import (
    Asked,
    BodyDigest,
    Prefix,
    absolute_url,
    answer_of,
    ask,
    ask_by_digest,
    capturing,
    inside,
    recall,
)
from aos_workflow.determinism.http.stream import keep
from aos_workflow.determinism.http.wire import rebuild, receive
from aos_workflow.determinism.patching import Patches
from aos_workflow.journal import EffectJournal

try:
    from urllib3 import HTTPHeaderDict
except ImportError:  # 1.26
    from urllib3._collections import HTTPHeaderDict

_TUNNEL = "_aos_needs_tunnel"
_BLOCK = 1 << 16


def patch(patches: Patches) -> None:
    """Patch the connection pools of urllib3."""
    gate(patches, connectionpool.HTTPConnectionPool, "_make_request", _make_request)
    gate(patches, connectionpool.HTTPSConnectionPool, "_prepare_proxy", _prepare_proxy)
    gate(patches, Retry, "sleep", _sleep)
    gate(patches, Retry, "sleep_for_retry", _sleep)


def _sleep(original: Any, retry: Any, *args: Any, **kwargs: Any) -> Any:
    """Between two tries: in replay there is nobody to wait for."""
    journal = capturing()
    return None if journal is not None and journal.is_replay else original(retry, *args, **kwargs)


def _prepare_proxy(original: Any, pool: Any, connection: Any) -> None:
    """A tunnel through a proxy is opened as a part of the exchange, so that its errors are recorded too."""
    if capturing() is None:
        original(pool, connection)
    else:
        connection.__dict__[_TUNNEL] = lambda: original(pool, connection)


def _make_request(original: Any, pool: Any, connection: Any, method: str, url: str, **options: Any) -> Any:
    open_tunnel = connection.__dict__.pop(_TUNNEL, None)
    journal = capturing()
    if journal is None:
        return original(pool, connection, method, url, **options)
    absolute = absolute_url(pool.scheme, pool.host, pool.port, url)
    asked, body = _asked(method, absolute, options.get("body"), options.get("headers"), rewind=not journal.is_replay)
    kept: Any = None
    if journal.is_replay:
        response = _replayed(journal, asked, connection, body)
    else:
        if "body" in options:
            options["body"] = body
        began_s = monotonic_s()
        try:
            with inside():
                if open_tunnel is not None:
                    open_tunnel()
                kept = original(pool, connection, method, url, **_unread(options))
        except Exception as error:
            is_past_proxy = bool(getattr(connection, "has_connected_to_proxy", False))
            keep(journal, asked.raised(error, past_proxy=is_past_proxy))
            raise
        response = receive(_answered(kept), asked, journal, began_s)
    return _dressed(response, pool, method, url, options, kept) if "preload_content" in options else response


def _replayed(journal: EffectJournal, asked: Asked, connection: Any, body: Any) -> http.client.HTTPResponse:
    exchange = recall(journal, asked)
    if exchange.get("past_proxy"):  # or the pool takes the error for one of the proxy
        connection._has_connected_to_proxy = True
    answer = answer_of(exchange, HTTPError)
    if isinstance(body, chain):  # live it was read to its end
        deque(body, maxlen=0)
    return rebuild(answer, asked.method)


def _unread(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "preload_content": False} if "preload_content" in options else dict(options)


def _answered(response: Any) -> http.client.HTTPResponse:
    """The response of http.client: urllib3 2 returns it inside of its own, 1.26 as it is."""
    found: http.client.HTTPResponse = getattr(response, "_original_response", None) or response
    return found


def _dressed(
    response: http.client.HTTPResponse, pool: Any, method: str, url: str, options: Mapping[str, Any], kept: Any
) -> Any:
    """The response of urllib3 2 around one of http.client, as its connection makes it.

    ``kept`` is the live one, which would close what a passed-on body is read from as soon as nobody has it.
    """
    dressed = HTTPResponse(
        body=response,
        headers=HTTPHeaderDict(list(response.msg.items())),
        status=response.status,
        version=response.version,
        version_string=f"HTTP/{response.version // 10}.{response.version % 10}",
        reason=response.reason,
        preload_content=options["preload_content"],
        decode_content=options.get("decode_content", True),
        original_response=response,
        enforce_content_length=options.get("enforce_content_length", True),
        request_method=method,
        request_url=url,
        retries=options.get("retries"),
    )
    own: Any = dressed
    own._connection, own._pool, own._aos_live = options.get("response_conn"), pool, kept
    return dressed


def _asked(method: str, url: str, body: Any, headers: Mapping[Any, Any] | None, *, rewind: bool) -> tuple[Asked, Any]:
    """Name the request; return the body as it is to be sent: what can be read only once has been read, or begun."""
    fields = {_as_text(name).lower(): _as_text(value) for name, value in (headers or {}).items()}
    if body is None or isinstance(body, str | bytes | bytearray | memoryview):
        content = body.encode() if isinstance(body, str) else bytes(body or b"")
        return ask(method, url, content, fields), body
    if hasattr(body, "read") and hasattr(body, "seek") and (start := _position(body)) is not None:
        digest = BodyDigest(fields)
        while block := body.read(_BLOCK):
            digest.update(_as_bytes(block))
        if rewind:
            body.seek(start)
        return ask_by_digest(method, url, digest.hex(), fields), body
    pieces = (_as_bytes(piece) for piece in (_read(body) if hasattr(body, "read") else body))
    prefix = Prefix()
    for piece in pieces:
        prefix.add(piece)
        if prefix.is_full:
            return prefix.ask(method, url, fields), chain(prefix.parts, pieces)
    return prefix.ask(method, url, fields), prefix.parts


def _read(body: Any) -> Iterator[Any]:
    while block := body.read(_BLOCK):
        yield block


def _position(body: Any) -> Any:
    try:
        return body.tell()
    except (AttributeError, OSError):
        return None


def _as_bytes(piece: Any) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
