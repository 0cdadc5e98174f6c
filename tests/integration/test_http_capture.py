"""HTTP of untouched steps: live it really happens and is recorded, in replay it is served without a socket."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import http.client
import importlib
import io
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import requests
import urllib3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aos_workflow.canonical import parse
from aos_workflow.determinism import http as capture
from aos_workflow.determinism.captured import Captured, captured
from aos_workflow.determinism.http.arrival import Arrivals
from aos_workflow.determinism.http.exchange import LIMIT_BYTES, Answer, BodyDigest, absolute_url, ask
from aos_workflow.determinism.http.masks import MASK, is_secret, masked_header, masked_text, masked_url
from aos_workflow.determinism.http.raised import describe, revive
from aos_workflow.determinism.http.wire import rebuild, unchunked
from aos_workflow.errors import UndeclaredEffect
from aos_workflow.journal import EffectJournal

Reply = tuple[int, list[tuple[str, str]], bytes]
Fetch = Callable[..., Reply]

# --- a real server --------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        path, _, query = self.path.removeprefix("http://far.invalid").partition("?")
        getattr(self, path.strip("/").replace("/", "_") or "plain")(query)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = handle_any

    def answer(self, body: bytes, status: int = 200, *headers: tuple[str, str], reason: str | None = None) -> None:
        self.send_response(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def plain(self, _: str) -> None:
        self.answer("grüß Gott\n".encode(), 200, ("Content-Type", "text/plain; charset=utf-8"), ("X-Twice", "a"),
                    ("X-Twice", "b"))  # fmt: skip

    def json(self, query: str) -> None:
        self.answer(json.dumps({"query": parse_qs(query)}).encode(), 200, ("Content-Type", "application/json"))

    def echo(self, _: str) -> None:
        body = self.body()
        self.answer(self.command.encode() + b" " + str(len(body)).encode() + b" " + body)

    def count(self, _: str) -> None:
        self.answer(str(len(self.server.asked)).encode())  # type: ignore[attr-defined]

    def status(self, query: str) -> None:
        self.answer(b"so it is", int(query), reason="Because I Say So")

    def redirect(self, query: str) -> None:
        self.answer(b"", int(query or 302), ("Location", "/json?api_key=hush&page=2"))

    def gzip(self, _: str) -> None:
        self.answer(gzip.compress(b"squeezed " * 100, mtime=0), 200, ("Content-Encoding", "gzip"))

    def binary(self, _: str) -> None:
        self.answer(bytes(range(256)))

    def chunked(self, query: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in [b"one ", b"two ", b"three"] if not query else [b"x" * 65536] * int(query):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def until_close(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"to the end")

    def cut(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"only this")
        self.close_connection = True

    def cut_chunked(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"9\r\nonly this\r\n")
        self.close_connection = True

    def stall(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"only this")
        self.wfile.flush()
        self.server.is_over.wait(5)  # type: ignore[attr-defined]

    def slow(self, _: str) -> None:
        self.server.is_over.wait(5)  # type: ignore[attr-defined]
        self.close_connection = True

    def hangup(self, _: str) -> None:
        self.close_connection = True

    def big(self, query: str) -> None:
        self.answer(b"x" * int(query))

    def events(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: 1\n\n")
        self.wfile.flush()
        self.server.is_over.wait(5)  # type: ignore[attr-defined]
        self.wfile.write(b"data: 2\n\n")

    def drip(self, query: str) -> None:
        is_chunked = query != "close"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Connection", "close")))
        self.end_headers()
        for line in [b'{"n": 1}\n', b'{"n": 2}\n', b'{"n": 3}\n'] * 2:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line) if is_chunked else line)
            self.wfile.flush()
            self.server.is_over.wait(0.02 if query == "fast" else 4)  # type: ignore[attr-defined]
        self.wfile.write(b"0\r\n\r\n" if is_chunked else b"")
        self.close_connection = True

    def swallow(self, _: str) -> None:
        count = 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                while size:
                    size -= (read := len(self.rfile.read(min(size, 1 << 16))))
                    count += read
                self.rfile.readline()
            self.rfile.readline()
        self.answer(str(count).encode())

    def range(self, _: str) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-9").removeprefix("bytes=").partition("-")
        body = b"0123456789"[int(first) : int(last) + 1]
        self.answer(body + self.headers.get("Accept", "").encode().replace(b"*/*", b""))

    def login(self, _: str) -> None:
        self.answer(b"welcome", 200, ("Set-Cookie", "session=s3cr3t-cookie; Path=/; HttpOnly"),
                    ("X-Auth-Token", "s3cr3t-header"))  # fmt: skip

    def who(self, _: str) -> None:
        self.answer(b"known" if "s3cr3t-cookie" in self.headers.get("Cookie", "") else b"unknown")

    def protected(self, _: str) -> None:
        given = self.headers.get("Authorization", "")
        if given.startswith(("Digest", "Basic")):
            self.answer(b"come in")
        else:
            self.answer(b"no", 401, ("WWW-Authenticate", 'Digest realm="r", nonce="s3cr3t-nonce", qop="auth"'))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    asked: list[str]
    is_over: threading.Event
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Server:
    """A server on a port of its own; ``stop`` makes the port refuse connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.asked = self.asked
        self._server.is_over = threading.Event()
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.is_over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    capture.install()
    yield
    capture.uninstall()


# --- a step, live and in replay -------------------------------------------------------------

#: Threads that may not touch the network: Python tells this hook who connects or resolves a name.
_sealed: set[int] = set()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo") and threading.get_ident() in _sealed:
        raise AssertionError(f"a replay wanted {event} {arguments}")


sys.addaudithook(_hear)


@contextmanager
def capturing(journal: EffectJournal, *, is_http: bool = True) -> Iterator[EffectJournal]:
    token = captured.set(Captured(journal=journal, seed=1, address="1.step", now_s=0.0, ambient=False, http=is_http))
    if journal.is_replay:
        _sealed.add(threading.get_ident())
    try:
        yield journal
    finally:
        _sealed.discard(threading.get_ident())
        captured.reset(token)


def live(step: Callable[[], Any]) -> tuple[Any, str]:
    """What the step returns, and the text of its journal."""
    with capturing(EffectJournal()) as journal:
        value = step()
    return value, journal.text() or "{}"


def replay(step: Callable[[], Any], text: str) -> Any:
    with capturing(EffectJournal(text, is_replay=True)):
        return step()


def exchanges(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parse(text).get("http", [])
    return found


def the_same(server: Server, step: Callable[[], Any]) -> Any:
    """What the step returns; live and, with the server gone, in replay."""
    value, text = live(step)
    server.stop()
    assert value == replay(step, text)
    return value


def the_error(step: Callable[[], Any]) -> Callable[[], Any]:
    """A step that returns type and text of what ``step`` raises, and of its causes."""

    def caught() -> list[tuple[type, str]]:
        try:
            step()
        except Exception as error:
            chain: list[tuple[type, str]] = []
            at: Any = error
            while at is not None:
                chain.append((type(at), str(at)))
                at = at.__cause__
            return chain
        return []

    return caught


#: Made once, because reading the machine's certificates takes a while.
TRUST = ssl.create_default_context()

# --- six ways to ask ------------------------------------------------------------------------


def by_http_client(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"
    connection.request(method, target, body=body, headers=headers or {})
    response = connection.getresponse()
    reply = response.status, response.getheaders(), response.read()
    connection.close()
    return reply


def by_urllib(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as response:
            return response.status, response.headers.items(), response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.items(), error.read()


def by_urllib3(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    with urllib3.PoolManager() as pool:
        response = pool.request(method, url, body=body, headers=headers, timeout=timeout, retries=0, redirect=False)
        return response.status, list(response.headers.items()), response.data


def by_requests(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    with requests.Session() as session:
        session.trust_env = False
        response = session.request(method, url, data=body, headers=headers, timeout=timeout)
        return response.status_code, list(response.headers.items()), response.content


def by_httpx(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    with httpx.Client(verify=TRUST, trust_env=False, timeout=timeout, follow_redirects=True) as client:
        response = client.request(method, url, content=body, headers=headers)
        return response.status_code, response.headers.multi_items(), response.content


async def async_pieces(body: Any) -> AsyncIterator[bytes]:
    for piece in iter(lambda: body.read(4), b"") if hasattr(body, "read") else body:
        yield piece


def by_async_httpx(url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: float = 5) -> Reply:
    async def ask() -> Reply:
        async with httpx.AsyncClient(verify=TRUST, trust_env=False, timeout=timeout, follow_redirects=True) as client:
            content = body if body is None or isinstance(body, bytes) else async_pieces(body)
            response = await client.request(method, url, content=content, headers=headers)
            return response.status_code, response.headers.multi_items(), response.content

    return asyncio.run(ask())


WAYS: dict[str, Fetch] = {
    "http.client": by_http_client,
    "urllib": by_urllib,
    "urllib3": by_urllib3,
    "requests": by_requests,
    "httpx": by_httpx,
    "async httpx": by_async_httpx,
}
every_way = pytest.mark.parametrize("fetch", WAYS.values(), ids=WAYS)
following = pytest.mark.parametrize("fetch", [WAYS[name] for name in ("urllib", "requests", "httpx", "async httpx")])

# --- the same live and in replay ------------------------------------------------------------

PATHS = ("/", "/json?a=1&b=%20", "/binary", "/chunked", "/until_close", "/gzip", "/status?204", "/status?304",
         "/status?404", "/status?503", "/big?0", f"/big?{LIMIT_BYTES}", "/echo")  # fmt: skip


@every_way
def test_replay_is_byte_by_byte_what_live_was(server: Server, fetch: Fetch) -> None:
    """Status, headers and body of every kind of answer are the same, with the server gone."""

    def step() -> list[Reply]:
        return [fetch(server.url + path) for path in PATHS]

    replies = the_same(server, step)
    assert [status for status, _, _ in replies] == [200] * 6 + [204, 304, 404, 503] + [200] * 3
    assert [reply[2] for reply in replies[:3]] == [
        "grüß Gott\n".encode(), b'{"query": {"a": ["1"], "b": [" "]}}', bytes(range(256))
    ]  # fmt: skip
    assert replies[3][2] == b"one two three"
    assert replies[4][2] == b"to the end"
    squeezed = replies[5][2]
    assert (zlib.decompress(squeezed, 31) if squeezed[:2] == b"\x1f\x8b" else squeezed) == b"squeezed " * 100


@every_way
def test_live_is_what_it_is_without_capture(server: Server, fetch: Fetch) -> None:
    """A captured step gets the status, headers and body that it would get without capture."""
    volatile = {"date", "server"}
    for path in ("/", "/gzip", "/chunked", "/until_close", "/status?404", "/status?204"):
        plain, (recorded, _) = fetch(server.url + path), live(partial(fetch, server.url + path))
        for reply in (plain, recorded):
            assert reply[0] == plain[0]
            assert reply[2] == plain[2]
            assert [h for h in reply[1] if h[0].lower() not in volatile] == [
                h for h in plain[1] if h[0].lower() not in volatile
            ]


@every_way
@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
def test_methods_are_the_request_s_own(server: Server, fetch: Fetch, method: str) -> None:
    """The method is a part of the key, and a HEAD has headers only."""
    status, headers, body = the_same(server, lambda: fetch(f"{server.url}/echo", method))
    assert (status, len(body)) == (200, 0 if method == "HEAD" else len("DELETE 0 "))
    assert {name.lower(): value for name, value in headers}["content-length"] == str(len(f"{method} 0 "))


@every_way
def test_the_nth_request_gets_the_nth_answer(server: Server, fetch: Fetch) -> None:
    """Requests of one key are told apart by their order."""
    assert the_same(server, lambda: [fetch(f"{server.url}/count")[2] for _ in range(3)]) == [b"1", b"2", b"3"]


@every_way
def test_one_exchange_is_recorded_once(server: Server, fetch: Fetch) -> None:
    """However many libraries a request passes, there is one exchange of it, named by method, URL and body."""
    _, text = live(lambda: fetch(f"{server.url}/echo", "POST", b"{}", {"Content-Type": "application/json"}))
    key = f"POST {server.url}/echo#{hashlib.sha256(b'{}').hexdigest()[:16]}"
    assert [exchange["key"] for exchange in exchanges(text)] == [key]
    assert [exchange["body"] for exchange in exchanges(text)] == ["POST 2 {}"]
    assert server.asked == ["POST /echo"]


@every_way
def test_another_body_is_another_request(server: Server, fetch: Fetch) -> None:
    """A replay does not answer a request with the answer to another body."""
    _, text = live(lambda: fetch(f"{server.url}/echo", "POST", b"one"))
    with pytest.raises(UndeclaredEffect):
        replay(lambda: fetch(f"{server.url}/echo", "POST", b"two"), text)


@every_way
def test_what_was_not_recorded_is_refused_as_it_is(server: Server, fetch: Fetch) -> None:
    """No library wraps the refusal, no socket is opened, and the breach names request and line."""
    journal = EffectJournal(is_replay=True)
    with capturing(journal), pytest.raises(UndeclaredEffect):
        fetch(f"{server.url}/json")
    assert server.asked == []
    [breach] = journal.breaches
    assert breach.cause == "external_call"
    assert f"GET {server.url}/json#" in breach.what
    assert breach.location is not None
    assert __file__ in breach.location


@every_way
def test_outside_of_a_step_nothing_is_captured(server: Server, fetch: Fetch) -> None:
    """Without a capture, or with one that leaves HTTP alone, the libraries are as they were."""
    assert fetch(f"{server.url}/count")[2] == b"1"
    journal = EffectJournal()
    with capturing(journal, is_http=False):
        assert fetch(f"{server.url}/count")[2] == b"2"
    assert journal.text() is None


@every_way
def test_steps_in_threads_do_not_mix(server: Server, fetch: Fetch) -> None:
    """Steps that run at the same time record into their own journals."""

    def step(number: int) -> tuple[Any, str]:
        return live(lambda: [fetch(f"{server.url}/json?n={number}")[2] for _ in range(3)])

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(step, range(8)))
    for number, (bodies, text) in enumerate(done):
        assert bodies == [b'{"query": {"n": ["%d"]}}' % number] * 3
        assert [exchange["request"]["url"] for exchange in exchanges(text)] == [f"{server.url}/json?n={number}"] * 3


# --- bodies that are sent -------------------------------------------------------------------


class OneWay(io.RawIOBase):
    """A file that can be read only once, like a pipe."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)


def pieces() -> Iterator[bytes]:
    yield from (b"one ", b"two ", b"three")


BODIES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"one two three",
    "file": lambda: io.BytesIO(b"one two three"),
    "one-way file": lambda: OneWay(b"one two three"),
    "generator": pieces,
}


@every_way
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_arrive(server: Server, fetch: Fetch, body: Callable[[], Any]) -> None:
    """Bytes, files and generators arrive whole live, and name the same request in replay."""
    reply = the_same(server, lambda: fetch(f"{server.url}/echo", "PUT", body())[2])
    assert reply == b"PUT 13 one two three"


def test_json_and_forms(server: Server) -> None:
    """What a library makes of json= and data= is what is sent and what is named."""

    def step() -> list[bytes]:
        return [
            requests.post(f"{server.url}/echo", json={"a": 1}).content,
            requests.post(f"{server.url}/echo", data={"a": "1 2"}).content,
            httpx.post(f"{server.url}/echo", json={"a": 1}).content,
            urllib3.PoolManager().request("POST", f"{server.url}/echo", fields={"a": "1"}).data[:5],
        ]

    assert the_same(server, step)[:2] == [b'POST 8 {"a": 1}', b"POST 5 a=1+2"]


@pytest.mark.parametrize("post", [requests.post, httpx.post], ids=["requests", "httpx"])
def test_a_multipart_boundary_is_no_part_of_the_name(server: Server, post: Callable[..., Any]) -> None:
    """Libraries draw the boundary of an upload anew each time; the request is the same one nevertheless."""
    step = lambda: post(f"{server.url}/echo", files={"f": ("a.txt", io.BytesIO(b"content"))}).status_code  # noqa: E731
    assert the_same(server, step) == 200


def test_a_file_stands_where_it_would(server: Server) -> None:
    """After the request the file has been read to its end, live and in replay; its beginning was not sent."""

    def step() -> tuple[bytes, int]:
        with io.BytesIO(b"skipped content") as file:
            file.seek(8)
            sent = requests.post(f"{server.url}/echo", data=file).content
            return sent, file.tell()

    assert the_same(server, step) == (b"POST 7 content", 15)


# --- redirects, cookies, authentication -----------------------------------------------------


@following
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Server, fetch: Fetch, status: int) -> None:
    """The library follows redirects itself, live to where they lead, and every hop is an exchange."""
    if fetch is by_urllib and status == 308 and sys.version_info < (3, 11):
        pytest.skip("urllib does not follow 308")
    value, text = live(lambda: fetch(f"{server.url}/redirect?{status}"))
    server.stop()
    assert value == replay(lambda: fetch(f"{server.url}/redirect?{status}"), text)
    assert server.asked == [f"GET /redirect?{status}", "GET /json?api_key=hush&page=2"]
    assert [exchange["status"] for exchange in exchanges(text)] == [status, 200]
    assert "hush" not in text.replace('["hush"]', "").replace(r"[\"hush\"]", "")


def test_history_of_redirects(server: Server) -> None:
    """``history``, ``url`` and ``geturl`` say in replay what they said live, but for masked secrets."""

    def step() -> list[Any]:
        by_requests, by_httpx = (
            requests.get(f"{server.url}/redirect"),
            httpx.get(f"{server.url}/redirect", follow_redirects=True),
        )
        pooled = urllib3.PoolManager().request("GET", f"{server.url}/redirect")
        return [
            len(by_requests.history),
            len(by_httpx.history),
            len(pooled.retries.history if pooled.retries else ()),
            by_requests.is_redirect,
        ]

    assert the_same(server, step) == [1, 1, 1, False]


def sessions() -> dict[str, Callable[[str], list[bytes]]]:
    def requests_session(url: str) -> list[bytes]:
        with requests.Session() as session:
            return [session.get(url + path).content for path in ("/login", "/who")]

    def httpx_client(url: str) -> list[bytes]:
        with httpx.Client(verify=TRUST) as client:
            return [client.get(url + path).content for path in ("/login", "/who")]

    def urllib_opener(url: str) -> list[bytes]:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        return [opener.open(url + path).read() for path in ("/login", "/who")]

    def by_hand(url: str) -> list[bytes]:
        response = urllib3.PoolManager().request("GET", f"{url}/login")
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        return [response.data, urllib3.PoolManager().request("GET", f"{url}/who", headers={"Cookie": cookie}).data]

    return {"requests": requests_session, "httpx": httpx_client, "urllib": urllib_opener, "by hand": by_hand}


@pytest.mark.parametrize("session", sessions().values(), ids=sessions())
def test_sessions_stay_logged_in(server: Server, session: Callable[[str], list[bytes]]) -> None:
    """A session's cookie works live, is not in the journal, and its requests are found in replay."""
    value, text = live(lambda: session(server.url))
    assert value == [b"welcome", b"known"]
    assert "s3cr3t" not in text
    server.stop()
    assert value == replay(lambda: session(server.url), text)


@pytest.mark.parametrize("way", ["requests", "httpx"])
def test_digest_authentication(server: Server, way: str) -> None:
    """The challenge reaches the library live and in replay; nonce and password stay out of the journal."""

    def step() -> tuple[int, bytes]:
        url = f"{server.url}/protected"
        response: Any = (
            requests.get(url, auth=requests.auth.HTTPDigestAuth("me", "pass-word"))
            if way == "requests"
            else httpx.get(url, auth=httpx.DigestAuth("me", "pass-word"))
        )
        return response.status_code, response.content

    value, text = live(step)
    server.stop()
    assert value == replay(step, text) == (200, b"come in")
    assert [exchange["status"] for exchange in exchanges(text)] == [401, 200]
    assert "s3cr3t" not in text
    assert "pass-word" not in text


@every_way
def test_secrets_of_a_request_stay_out(server: Server, fetch: Fetch) -> None:
    """Headers of a request are not recorded, secret parameters are masked, and both may change."""

    def step(secret: str) -> Callable[[], int]:
        return lambda: fetch(
            f"{server.url}/json?page=1&API_Key={secret}",
            headers={"Authorization": f"Bearer {secret}", "Cookie": secret, "X-Trace": secret},
        )[0]

    _, text = live(step("first"))
    assert exchanges(text)[0]["request"] == {"method": "GET", "url": f"{server.url}/json?page=1&API_Key={MASK}"}
    assert "first" not in text.replace(json.dumps(exchanges(text)[0]["body"]), "")
    assert replay(step("second"), text) == 200


# --- errors ---------------------------------------------------------------------------------


@every_way
def test_a_refused_connection_is_refused_again(server: Server, fetch: Fetch) -> None:
    """The same class with the same text and the same causes is raised in replay."""
    server.stop()
    step = the_error(lambda: fetch(f"{server.url}/json"))
    value, text = live(step)
    assert value == replay(step, text)
    assert [exchange["raised"]["type"] for exchange in exchanges(text)]
    assert "refused" in str(value) or fetch is by_async_httpx


@every_way
@pytest.mark.parametrize("path", ["/slow", "/stall", "/hangup", "/cut", "/cut_chunked"])
def test_what_went_wrong_goes_wrong_again(server: Server, fetch: Fetch, path: str) -> None:
    """A timeout, a hung-up connection and a body that breaks off are the same errors in replay."""
    timeout = 0.1 if path in ("/slow", "/stall") else 5
    value = the_same(server, the_error(lambda: fetch(server.url + path, timeout=timeout)))
    assert value or (path, fetch) == ("/cut", by_requests)  # which urllib3 1.26 does not notice


def test_the_errors_of_requests_are_its_own(server: Server) -> None:
    """``except requests.Timeout`` and ``except requests.ConnectionError`` catch in replay what they caught live."""

    def step() -> list[str]:
        caught = []
        for path, timeout in (("/slow", 0.1), ("/hangup", 5)):
            try:
                requests.get(server.url + path, timeout=timeout)
            except requests.Timeout:
                caught.append("timeout")
            except requests.ConnectionError:
                caught.append("connection")
        return caught

    assert the_same(server, step) == ["timeout", "connection"]


def test_names_that_do_not_resolve() -> None:
    """A failed lookup is recorded, and in replay nobody looks anything up."""
    for fetch in (by_http_client, by_urllib, by_urllib3, by_requests, by_httpx):
        step = the_error(partial(fetch, "http://nowhere.invalid/"))
        value, text = live(step)
        assert value == replay(step, text)


def test_urllib_raises_its_http_error_again(server: Server) -> None:
    """An HTTPError is raised in replay, with code, reason, headers and body."""

    def step() -> tuple[Any, ...]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}/status?418")
        error = caught.value
        return error.code, error.reason, error.url, error.headers.items(), error.read()

    assert the_same(server, step)[:2] == (418, "Because I Say So")


def test_retries_are_the_library_s(server: Server) -> None:
    """Retries of urllib3 happen live and in replay, and every try is an exchange of its own."""

    def step() -> tuple[int, int]:
        retries = urllib3.Retry(total=3, backoff_factor=0.01, status_forcelist=[503], raise_on_status=False)
        response = urllib3.PoolManager(retries=retries).request("GET", f"{server.url}/status?503")
        return response.status, len(response.retries.history if response.retries else ())

    assert the_same(server, step) == (503, 3)
    assert len(server.asked) == 4


def test_a_replay_does_not_wait_between_tries(server: Server) -> None:
    """The pauses between tries, which live are real, are left out in replay."""

    def step() -> int:
        retries = urllib3.Retry(total=2, backoff_factor=0.3, status_forcelist=[503], raise_on_status=False)
        return urllib3.PoolManager(retries=retries).request("GET", f"{server.url}/status?503").status

    value, text = live(step)
    began = time.monotonic()
    assert value == replay(step, text)
    assert time.monotonic() - began < 0.5


def test_an_error_class_that_is_gone_has_a_stand_in() -> None:
    """A recorded error of a class that is not here becomes the library's own base; nothing else is imported."""
    gone = revive({"type": "urllib3.exceptions.Gone", "message": "m"}, urllib3.exceptions.HTTPError)
    foreign = revive({"type": "os.system", "message": "m"}, httpx.TransportError)
    assert [(type(error), str(error)) for error in (gone, foreign)] == [
        (urllib3.exceptions.HTTPError, "m"),
        (httpx.TransportError, "m"),
    ]


def test_errors_name_no_secrets() -> None:
    """A URL in an error's text is masked like any other."""
    message = describe(ValueError("no http://me:pw@h/x?token=abc&a=1, no"))["message"]
    assert message == f"no http://{MASK}@h/x?token={MASK}&a=1, no"


# --- ways to read ---------------------------------------------------------------------------


def reading() -> dict[str, Callable[[str], Any]]:
    def partial_reads(url: str) -> list[Any]:
        connection = http.client.HTTPConnection(url.partition("//")[2])
        connection.request("GET", "/binary")
        response = connection.getresponse()
        buffer = bytearray(7)
        read = [
            response.read(3),
            response.read1(2),
            response.peek(1)[:1],
            response.readinto(buffer),
            response.isclosed(),
        ]
        return [*read, bytes(buffer), response.read(), response.isclosed(), response.read()]

    def lines(url: str) -> list[Any]:
        with urllib.request.urlopen(f"{url}/") as response:
            return [response.readline(), response.headers.get_all("X-Twice"), response.geturl(), list(response)]

    def piece_by_piece(url: str) -> list[Any]:
        connection = http.client.HTTPConnection(url.partition("//")[2])
        connection.putrequest("POST", "/echo")
        connection.putheader("Content-Length", "6")
        connection.endheaders(b"abc")
        connection.send(b"def")
        first = connection.getresponse().read()
        connection.request("GET", "/chunked")
        second = connection.getresponse()
        return [first, second.chunked, second.version, second.reason, second.read()]

    def streamed(url: str) -> list[Any]:
        with requests.get(f"{url}/gzip", stream=True) as response:
            read = list(response.iter_content(100))
        raw = requests.get(f"{url}/gzip", stream=True).raw
        return [read, raw.read(10), raw.read(), list(requests.get(f"{url}/", stream=True).iter_lines())]

    def chunks(url: str) -> list[Any]:
        response = urllib3.PoolManager().request("GET", f"{url}/chunked", preload_content=False)
        first, rest = response.read(2), response.read()
        again = urllib3.PoolManager().request("GET", f"{url}/chunked", preload_content=False)
        return [first, rest, list(again.stream(4)), list(again.stream(4)), response.version, response.geturl()]

    def all_of_requests(url: str) -> list[Any]:
        response = requests.get(f"{url}/json?a=1")
        return [response.json(), response.text, response.encoding, response.reason, response.url, response.elapsed,
                response.ok, response.raw.closed, response.raw.version, dict(response.cookies)]  # fmt: skip

    def all_of_httpx(url: str) -> list[Any]:
        with httpx.stream("GET", f"{url}/gzip") as response:
            read = list(response.iter_bytes(100))
        plain = httpx.get(f"{url}/json?a=1")
        return [read, plain.json(), plain.http_version, plain.reason_phrase, plain.elapsed, str(plain.url),
                plain.num_bytes_downloaded, plain.encoding]  # fmt: skip

    return {function.__name__: function for function in
            (partial_reads, lines, piece_by_piece, streamed, chunks, all_of_requests, all_of_httpx)}  # fmt: skip


@pytest.mark.parametrize("read", reading().values(), ids=reading())
def test_however_it_is_read(server: Server, read: Callable[[str], Any]) -> None:
    """Whatever a library offers to look at a response says in replay what it said live."""
    the_same(server, lambda: read(server.url))


def test_elapsed_is_what_it_took(server: Server) -> None:
    """The duration is recorded: it is real live, and the same in replay."""
    began = time.monotonic()
    by_requests, by_httpx = the_same(server, lambda: (requests.get(server.url).elapsed, httpx.get(server.url).elapsed))
    passed = time.monotonic() - began
    assert 0 < by_requests.total_seconds() < passed
    assert 0 < by_httpx.total_seconds() < passed


def test_connections_are_kept_alive(server: Server) -> None:
    """A captured step reuses its connections as before: http.client's, urllib3's pool, httpx's pool."""
    sockets = set()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1)
    with capturing(EffectJournal()), requests.Session() as session:
        for _ in range(3):
            connection.request("GET", "/chunked")
            connection.getresponse().read()
            sockets.add(connection.sock)
            pool.request("GET", "/json")
            assert session.get(f"{server.url}/json", stream=True).content
    adapter: Any = session.get_adapter(server.url)
    assert len(sockets) == 1
    assert (pool.num_connections, pool.num_requests) == (1, 3)
    assert [each.num_connections for each in adapter.poolmanager.pools._container.values()] in ([1], [])


def test_a_pool_survives_a_replay(server: Server) -> None:
    """A session that lives longer than a step works live, then in replay, then live again."""
    with requests.Session() as session:

        def step() -> bytes:
            return session.get(f"{server.url}/count").content

        value, text = live(step)
        assert value == replay(step, text) == b"1"
        assert live(step)[0] == b"2"
        assert step() == b"3"


def test_a_connection_survives_a_replay(server: Server) -> None:
    """So does a connection of http.client, and in replay it needs no reading before the next request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def step() -> bytes:
        connection.request("GET", "/json")
        connection.getresponse()
        connection.request("GET", "/count")
        return connection.getresponse().read()

    value, text = live(step)
    assert value == replay(step, text) == b"2"
    connection.close()
    connection.request("GET", "/count")
    assert connection.getresponse().read() == b"3"


# --- what is not recorded -------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("path", [f"/big?{LIMIT_BYTES + 1}", "/chunked?40"])
def test_long_bodies_pass(server: Server, fetch: Fetch, path: str) -> None:
    """A body beyond the limit arrives whole live, is not in the journal, and a replay refuses it."""
    value, text = live(lambda: fetch(server.url + path))
    assert len(value[2]) > LIMIT_BYTES
    assert set(value[2]) == {ord("x")}
    assert [set(exchange) for exchange in exchanges(text)] == [{"key", "request", "unrecorded"}]
    assert len(text) < 500
    with pytest.raises(UndeclaredEffect, match="longer than 1048576 bytes"):
        replay(lambda: fetch(server.url + path), text)


def streams() -> dict[str, Callable[[str], bytes]]:
    def requests_stream(url: str) -> bytes:
        with requests.get(f"{url}/events", stream=True) as response:
            return next(response.iter_lines(chunk_size=1))

    def httpx_stream(url: str) -> bytes:
        with httpx.stream("GET", f"{url}/events") as response:
            return next(response.iter_lines()).encode()

    def urllib_stream(url: str) -> bytes:
        with urllib.request.urlopen(f"{url}/events") as response:
            return bytes(response.readline().strip())

    def async_stream(url: str) -> bytes:
        async def first() -> str:
            async with httpx.AsyncClient(verify=TRUST) as client, client.stream("GET", f"{url}/events") as response:
                async for line in response.aiter_lines():
                    return line
            return ""

        return asyncio.run(first()).encode()

    return {"requests": requests_stream, "httpx": httpx_stream, "urllib": urllib_stream, "async": async_stream}


@pytest.mark.parametrize("stream", streams().values(), ids=streams())
def test_endless_streams_pass(server: Server, stream: Callable[[str], bytes]) -> None:
    """Server-sent events arrive as they are sent, live; a replay refuses them."""
    began = time.monotonic()
    value, text = live(lambda: stream(server.url))
    assert value == b"data: 1"
    assert time.monotonic() - began < 4  # the server waits before it sends the second
    with pytest.raises(UndeclaredEffect, match="stream without an end"):
        replay(lambda: stream(server.url), text)


# --- bodies that come while they are read -----------------------------------------------------


def dripping() -> dict[str, Callable[[str], bytes]]:
    def by_http_client(url: str) -> bytes:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=3)
        connection.request("GET", f"{parts.path}?{parts.query}")
        with connection.getresponse() as response:
            return response.readline()

    def by_urllib(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=3) as response:
            return bytes(response.readline())

    def by_urllib3(url: str) -> bytes:
        response = urllib3.PoolManager().request("GET", url, preload_content=False, timeout=3)
        line = bytes(response.read(9))
        response.close()
        return line

    def by_requests(url: str) -> bytes:
        with requests.get(url, stream=True, timeout=3) as response:
            return next(response.iter_lines(chunk_size=1)) + b"\n"

    def by_httpx(url: str) -> bytes:
        with httpx.stream("GET", url, timeout=3) as response:
            return next(response.iter_lines()).encode() + b"\n"

    def by_async_httpx(url: str) -> bytes:
        async def first() -> str:
            async with httpx.AsyncClient(verify=TRUST, timeout=3) as client, client.stream("GET", url) as response:
                async for line in response.aiter_lines():
                    return line
            return ""

        return asyncio.run(first()).encode() + b"\n"

    return {function.__name__: function for function in
            (by_http_client, by_urllib, by_urllib3, by_requests, by_httpx, by_async_httpx)}  # fmt: skip


@pytest.mark.parametrize("path", ["/drip?slow", "/drip?close"])
@pytest.mark.parametrize("first", dripping().values(), ids=dripping())
def test_a_stream_is_not_waited_for(server: Server, first: Callable[[str], bytes], path: str) -> None:
    """A step gets the beginning of a watch when it comes; closed then, it is recorded as far as it was read."""
    began = time.monotonic()
    value, text = live(lambda: first(server.url + path))
    assert time.monotonic() - began < 3  # the second line comes after four
    server.stop()
    assert value == replay(lambda: first(server.url + path), text) == b'{"n": 1}\n'
    assert [(exchange["body"], exchange.get("cut")) for exchange in exchanges(text)] == [('{"n": 1}\n', True)]


@pytest.mark.parametrize("way", ["requests", "urllib3", "httpx"])
def test_a_stream_comes_in_the_same_pieces(server: Server, way: str) -> None:
    """A replay serves a streamed body in the pieces in which it came."""

    def step() -> list[bytes]:
        url = f"{server.url}/drip?fast"
        if way == "requests":
            return list(requests.get(url, stream=True).iter_content(None))
        if way == "urllib3":
            return list(urllib3.PoolManager().request("GET", url, preload_content=False).stream())
        with httpx.stream("GET", url) as response:
            return list(response.iter_raw())

    assert len(the_same(server, step)) == 6


def test_a_stream_may_stop_at_any_piece(server: Server) -> None:
    """What a step read before it left is what it reads in replay, and not more."""

    def step() -> list[list[bytes]]:
        read = []
        for count in (1, 3, 2):
            with requests.get(f"{server.url}/drip?fast", stream=True) as response:
                pieces = response.iter_content(None)
                read.append([next(pieces) for _ in range(count)])
        return read

    assert [len(pieces) for pieces in the_same(server, step)] == [1, 3, 2]


def test_streams_of_one_key_stay_in_the_order_of_asking(server: Server) -> None:
    """Of two requests of one key the first is recorded first, though its body is read last."""

    def step() -> list[bytes]:
        first = requests.get(f"{server.url}/drip?fast", stream=True)
        second = requests.get(f"{server.url}/drip?fast", stream=True)
        whole = second.content
        beginning = next(first.iter_content(None))
        first.close()
        return [beginning, whole]

    value, text = live(step)
    server.stop()
    assert value == replay(step, text)
    assert [exchange.get("cut", False) for exchange in exchanges(text)] == [True, False]


def test_a_stream_that_nobody_closes_is_not_recorded(server: Server) -> None:
    """A body that is still open when the step ends is not in the journal, and a replay says so."""
    left = []

    def step() -> int:
        left.append(requests.get(f"{server.url}/drip?slow", stream=True))
        return left[-1].status_code

    value, text = live(step)
    assert (value, exchanges(text)) == (200, [])
    with pytest.raises(UndeclaredEffect):
        replay(step, text)
    left[0].close()


def test_a_stream_that_breaks_off_breaks_off_again(server: Server) -> None:
    """A streamed body whose next piece does not come in time is the same beginning and the same error in replay."""

    def step() -> list[Any]:
        read: list[Any] = []
        try:
            for line in requests.get(f"{server.url}/drip?slow", stream=True, timeout=0.3).iter_lines(chunk_size=1):
                read.append(line)
        except requests.RequestException as error:
            read.append(type(error))
        return read

    assert the_same(server, step) == [b'{"n": 1}', requests.exceptions.ConnectionError]


# --- after the step, large uploads, and headers that count ------------------------------------


@every_way
def test_a_step_that_is_over_records_nothing(server: Server, fetch: Fetch) -> None:
    """A thread that a step left behind asks as if there were no capture."""
    what = Captured(journal=EffectJournal(), seed=1, address="1.s", now_s=0.0, ambient=False, http=True)
    token = captured.set(what)
    try:
        fetch(f"{server.url}/count")
        what.is_over = True
        assert fetch(f"{server.url}/count")[2] == b"2"
    finally:
        captured.reset(token)
    assert len(what.journal.http) == 1


@every_way
def test_large_uploads_are_not_held_in_memory(server: Server, fetch: Fetch) -> None:
    """A generated body beyond the limit is sent as it comes, and is the same request in replay."""
    given = []

    def pieces() -> Iterator[bytes]:
        for number in range(64):
            given.append(number)
            yield bytes([number]) * (1 << 18)

    def step() -> bytes:
        return fetch(f"{server.url}/swallow", "PUT", pieces())[2]

    tracemalloc.start()
    try:
        value, text = live(step)
        _, peak = tracemalloc.get_traced_memory()
        assert value == str(64 << 18).encode()
        assert peak < 8 << 20
        server.stop()
        tracemalloc.reset_peak()
        assert value == replay(step, text)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert len(given) == 128


@every_way
def test_a_large_upload_that_fails_fails_again(server: Server, fetch: Fetch) -> None:
    """A refused connection is recorded for a large upload as for any other."""
    server.stop()
    body = lambda: (b"x" * (1 << 18) for _ in range(16))  # noqa: E731
    step = the_error(lambda: fetch(f"{server.url}/swallow", "PUT", body()))
    value, text = live(step)
    assert value == replay(step, text)
    assert value


@every_way
def test_ranges_and_kinds_are_told_apart(server: Server, fetch: Fetch) -> None:
    """Requests that differ in Range or Accept are found again in whatever order they are made."""
    headers = [{"Range": "bytes=0-3"}, {"Range": "bytes=4-9"}, {"Accept": "text/csv"}, {}]

    def step(order: Callable[[Any], Any]) -> Callable[[], list[bytes]]:
        return lambda: list(order([fetch(f"{server.url}/range", headers=each)[2] for each in order(headers)]))

    value, text = live(step(list))
    server.stop()
    assert value == [b"0123", b"456789", b"0123456789text/csv", b"0123456789"]
    assert value == replay(step(lambda items: list(reversed(items))), text)


@given(
    st.lists(st.sampled_from([b"-", b"--", b"b", b"--b", b"x", b"bb"]), max_size=12),
    st.sampled_from(["--b", "b", "-b-"]),
)
def test_a_boundary_is_found_across_pieces(parts: list[bytes], boundary: str) -> None:
    """However a multipart body is cut into pieces, its name is the same."""
    fields = {"content-type": f"multipart/form-data; boundary={boundary}"}
    digest = BodyDigest(fields)
    for part in parts:
        digest.update(part)
    whole = b"".join(parts).replace(boundary.encode(), b"boundary")
    assert digest.hex() == hashlib.sha256(whole).hexdigest()


def test_old_finders_are_tolerated() -> None:
    """A finder without ``find_spec`` is passed over, as importlib does."""
    arrivals = Arrivals({"colorsys": lambda: None})
    old: Any = object()
    sys.modules.pop("colorsys", None)
    sys.meta_path.insert(0, old)
    arrivals.watch()
    try:
        assert importlib.import_module("colorsys").rgb_to_hsv
    finally:
        arrivals.stop()
        sys.meta_path.remove(old)


@pytest.mark.parametrize(
    ("name", "is_masked"),
    [
        *((name, True) for name in (
            "private_token", "api_token", "X-Api-Token", "user_token", "admin_token", "app_key", "auth_key", "jwt",
            "code", "client_assertion", "passphrase", "pass", "X-Gitlab-Token", "refresh_token",
        )),
        *((name, False) for name in (
            "page_token", "pageToken", "continuation_token", "X-MS-Continuation-Token", "next_token", "max_tokens",
            "nextSyncToken", "compass", "zip_code", "barcode", "tokenizer", "bypass",
        )),
    ],
)  # fmt: skip
def test_names_of_secrets(name: str, is_masked: bool) -> None:
    """Whatever ends with token is a secret, but for places in a list; so are the usual names of keys and codes."""
    assert is_secret(name) is is_masked


def test_transports_of_one_s_own_are_left_alone() -> None:
    """A client with a MockTransport asks nobody, so there is nothing to capture."""
    mock = httpx.MockTransport(lambda request: httpx.Response(200, text="mocked"))
    step = lambda: httpx.Client(transport=mock).get("http://nowhere.invalid/").text  # noqa: E731
    assert live(step) == ("mocked", "{}")
    assert replay(step, "{}") == "mocked"


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", str(path), "-out", str(path.with_suffix(".crt")), "-days", "2", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def test_https_is_captured_too(certificate: Path) -> None:
    """Over TLS the libraries are captured as without; an untrusted certificate is untrusted again."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = Server(tls)
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".crt"))
    authority = str(certificate.with_suffix(".crt"))

    def step() -> list[Any]:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusting)
        connection.request("GET", "/count")
        return [
            connection.getresponse().read(),
            urllib.request.urlopen(f"{server.url}/count", context=trusting).read(),
            requests.get(f"{server.url}/count", verify=authority).content,
            httpx.get(f"{server.url}/count", verify=trusting).content,
            the_error(lambda: requests.get(server.url))()[0][0],
            the_error(lambda: httpx.get(server.url))()[0][0],
            the_error(lambda: urllib.request.urlopen(server.url))()[0][0],
        ]

    assert the_same(server, step) == [
        b"1", b"2", b"3", b"4", requests.exceptions.SSLError, httpx.ConnectError, urllib.error.URLError
    ]  # fmt: skip


# --- proxies --------------------------------------------------------------------------------


def test_through_a_proxy(server: Server) -> None:
    """A request through a proxy is named by the URL that is asked for."""

    def step() -> list[int]:
        by_requests = requests.get("http://far.invalid/count", proxies={"http": server.url})
        return [by_requests.status_code, httpx.get("http://far.invalid/count", proxy=server.url).status_code]

    value, text = live(step)
    server.stop()
    assert value == replay(step, text) == [200, 200]
    assert {exchange["request"]["url"] for exchange in exchanges(text)} == {"http://far.invalid/count"}


def test_a_tunnel_that_is_refused(server: Server) -> None:
    """The error of a proxy that opens no tunnel is recorded and raised again as one of the proxy."""
    server.stop()
    step = the_error(lambda: requests.get("https://far.invalid/", proxies={"https": server.url}))
    value, text = live(step)
    assert value == replay(step, text)
    assert value[0][0] is requests.exceptions.ProxyError


# --- the patches ----------------------------------------------------------------------------


def test_installing_again_changes_nothing() -> None:
    """``install`` twice, also from many threads, patches once; ``uninstall`` gives the originals back."""
    capture.uninstall()
    places = [(http.client.HTTPConnection, "send"), (urllib3.HTTPConnectionPool, "_make_request"),
              (httpx.HTTPTransport, "handle_request"), (requests.Session, "send")]  # fmt: skip
    originals = [vars(owner)[name] for owner, name in places]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: capture.install(), range(32)))
    patched = [vars(owner)[name] for owner, name in places]
    capture.install()
    assert patched == [vars(owner)[name] for owner, name in places]
    assert [getattr(function, "__wrapped__", None) for function in patched] == originals
    capture.uninstall()
    capture.uninstall()
    assert originals == [vars(owner)[name] for owner, name in places]


def test_a_library_that_comes_later_is_patched_then(server: Server) -> None:
    """A step that imports its HTTP library itself is captured too, and importing is as it was."""
    script = f"""
import sys
from aos_workflow.determinism import http as capture
from aos_workflow.determinism.captured import Captured, captured
from aos_workflow.journal import EffectJournal
capture.install()
assert not {{"requests", "httpx", "urllib3"}} & set(sys.modules), "nothing is imported without need"
journal = EffectJournal()
captured.set(Captured(journal=journal, seed=1, address="1.s", now_s=0.0, ambient=False, http=True))
import requests, httpx, urllib3, inspect
assert type(urllib3.__loader__).__name__ == type(urllib3.__spec__.loader).__name__ == "SourceFileLoader"
assert "class Session" in inspect.getsource(requests.sessions)
requests.get("{server.url}/json"), httpx.get("{server.url}/json"), urllib3.PoolManager().request("GET", "{server.url}")
assert len(journal.http) == 3, journal.http
capture.uninstall()
assert not [f for f in sys.meta_path if "aos" in type(f).__module__]
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_passing_through_is_cheap() -> None:
    """Outside of a step a patched function costs a few microseconds more than its original."""
    connection = http.client.HTTPConnection("127.0.0.1", 1)
    connection.sock = type("Sink", (), {"sendall": lambda self, data: None})()
    began = time.perf_counter()
    for _ in range(10_000):
        connection.send(b"x")
    assert time.perf_counter() - began < 1.0


# --- names, masks, forms --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://me:pw@h/p?a=1#frag", f"https://{MASK}@h/p?a=1"),
        ("http://h/?TOKEN=x&key=y&api_key=z&ApiKey=1&access_token=2", "http://h/?TOKEN={0}&key={0}&api_key={0}&ApiKey={0}&access_token={0}"),
        ("http://h/?signature=1&sig=2&password=3&secret=4&auth=5", "http://h/?signature={0}&sig={0}&password={0}&secret={0}&auth={0}"),
        ("http://h/?X-Amz-Signature=1&client_secret=2&refreshToken=3", "http://h/?X-Amz-Signature={0}&client_secret={0}&refreshToken={0}"),
        ("http://h/?page_token=1&keyword=2&author=3&max_tokens=4&monkey=5", "http://h/?page_token=1&keyword=2&author=3&max_tokens=4&monkey=5"),
        ("http://h/?to%6ben=x&token=&token", "http://h/?to%6ben={0}&token=&token"),
        ("/relative?sig=1", "/relative?sig={0}"),
        ("http://[broken", "{0}"),
    ],
)  # fmt: skip
def test_urls_are_masked(url: str, masked: str) -> None:
    """Userinfo and the values of secret parameters are masked, nothing else; masking again changes nothing."""
    assert masked_url(url) == masked.format(MASK)
    assert masked_url(masked_url(url)) == masked_url(url)


def test_response_headers_are_masked() -> None:
    """Cookies keep names and attributes, challenges all but nonces and tickets, addresses all but secrets."""
    assert [masked_header(name, value) for name, value in [
        ("Set-Cookie", "sid=abc=def; Path=/; Secure"),
        ("set-cookie", "nonsense"),
        ("WWW-Authenticate", 'Digest realm="r", nonce="n", opaque=o, qop="auth"'),
        ("WWW-Authenticate", 'Bearer realm="r", error="invalid_token"'),
        ("Proxy-Authenticate", "NTLM TlRMTVNTUAAC="),
        ("Authorization", "Bearer abc"),
        ("X-Vault-Token", "abc"),
        ("Location", "https://h/?X-Amz-Signature=abc"),
        ("ETag", '"abc"'),
        ("X-RateLimit-Remaining-Tokens", "7"),
    ]] == [
        f"sid={MASK}; Path=/; Secure",
        MASK,
        f'Digest realm="r", nonce="{MASK}", opaque="{MASK}", qop="auth"',
        'Bearer realm="r", error="invalid_token"',
        f"NTLM {MASK}",
        MASK,
        MASK,
        f"https://h/?X-Amz-Signature={MASK}",
        '"abc"',
        "7",
    ]  # fmt: skip


@given(st.text(max_size=60))
def test_masking_is_total_and_stable(text: str) -> None:
    """Any text at all can be masked, as URL, text and header, and is stable from then on."""
    url = "http://h/?" + text
    assert masked_url(masked_url(url)) == masked_url(url)
    assert masked_text(masked_text(text)) == masked_text(text)
    assert isinstance(masked_header("Set-Cookie", text), str)
    assert isinstance(is_secret(text), bool)


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        (("http", "h", 80, "/a"), "http://h/a"),
        (("https", "H", 443, "/a"), "https://h/a"),
        (("https", "h", 8443, "/a?b=http://c"), "https://h:8443/a?b=http://c"),
        (("http", "::1", None, "/"), "http://[::1]/"),
        (("http", "proxy", 3128, "http://h/a"), "http://h/a"),
        (("http", "h", 80, "*"), "http://h/*"),
    ],
)
def test_urls_of_requests(parts: tuple[Any, ...], url: str) -> None:
    """A request's URL is put together as a person would write it."""
    assert absolute_url(*parts) == url


def test_boundaries_are_left_out_of_names() -> None:
    """Two multipart bodies that differ only in their boundary have the same name."""
    named = {
        ask(
            "POST",
            "http://h/",
            f"--{b}\r\n\r\nx\r\n--{b}--".encode(),
            {"content-type": f'multipart/form-data; charset=x; boundary="{b}"'},
        )
        for b in ("one", "three")
    }
    assert len(named) == 1


tokens = st.text(st.sampled_from("abcXYZ-019"), min_size=1, max_size=8).map(lambda name: f"x-{name}")
values = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85\xa0\xad"), max_size=20
)
answers = st.builds(
    Answer,
    status=st.integers(200, 599),
    reason=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20),
    version=st.sampled_from(["HTTP/1.0", "HTTP/1.1"]),
    headers=st.lists(st.tuples(tokens.filter(lambda name: not is_secret(name)), values), max_size=8).map(tuple),
    body=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")),
    elapsed_s=st.floats(0, 100),
    is_cut=st.booleans(),
)


@settings(max_examples=50)
@given(answers)
def test_any_answer_survives_the_journal(answer: Answer) -> None:
    """Status, reason, headers and body of any answer are the same after they were recorded."""
    journal = EffectJournal()
    asked = ask("GET", "http://h/", b"")
    journal.keep_exchange(answer.document(asked))
    again = EffectJournal(journal.text(), is_replay=True).recorded_exchange(asked.key)
    assert Answer.of(again) == answer


@settings(max_examples=50)
@given(answers, st.booleans())
def test_any_answer_is_rebuilt(answer: Answer, is_chunked: bool) -> None:
    """A response of http.client, and one of httpx, is what was recorded."""
    assume(answer.status not in (204, 304) or not answer.body)  # these have none
    framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(len(answer.body)))
    whole = Answer(status=answer.status, reason=answer.reason, version=answer.version, body=answer.body,
                   headers=(*answer.headers, framing), elapsed_s=0.0)  # fmt: skip
    response = rebuild(whole, "GET")
    assert (response.status, response.reason) == (answer.status, answer.reason)
    assert tuple(response.msg.items()) == whole.headers
    assert response.read() == answer.body
    from aos_workflow.determinism.http.httpx_transport import rebuild as rebuild_for_httpx

    for_httpx = rebuild_for_httpx(whole)
    assert (for_httpx.status_code, for_httpx.read()) == (answer.status, answer.body)
    assert [(n.decode("latin-1"), v.decode("latin-1")) for n, v in for_httpx.headers.raw] == list(whole.headers)


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_chunks_are_undone(parts: list[bytes]) -> None:
    """A chunked body is named by its content, however it was cut."""
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert unchunked(framed) == b"".join(parts)
    assert unchunked(framed[:-5]) == (framed[:-5])
    assert unchunked(b"plain") == b"plain"


def test_bodies_are_text_where_they_can_be() -> None:
    """A body is readable in the journal if it is UTF-8 without NUL, and Base64 otherwise."""

    def recorded(body: bytes) -> Any:
        answer = Answer(status=200, reason="OK", version="HTTP/1.1", headers=(), body=body)
        return answer.document(ask("GET", "http://h/", b""))["body"]

    assert recorded("ü".encode()) == "ü"
    assert [recorded(body) for body in (b"\xff", b"a\0")] == [
        {"base64": base64.b64encode(body).decode()} for body in (b"\xff", b"a\0")
    ]


def test_sockets_are_really_watched(server: Server) -> None:
    """The watch on replays would notice a connection."""
    with capturing(EffectJournal(is_replay=True)), pytest.raises(AssertionError):
        socket.create_connection(("127.0.0.1", server.port))
