"""The assistant's outside world: a model, two tools and a notebook behind HTTP on 127.0.0.1.

    python -m examples.assistant.service --port 8808 --flaky 2 --latency-s 0.05

| request | body | answer |
|---|---|---|
| POST /model/plan | question, notes | thought, done, calls |
| POST /model/summary | question, notes | answer, sources |
| POST /tools/search | query | passages |
| POST /tools/calculate | expression | value |
| POST /notebook | title, text | kept |
| GET /notebook | | notes |
| GET /stats | | per path: answered, repeated, refused, failed |
| GET /health | | ok |

A POST with an ``Idempotency-Key`` that was answered before gets the same answer and nothing is done again;
with another body it is refused.
``flaky=n`` fails the first n tries of every distinct POST with 503 and ``Retry-After``; ``latency_s`` makes
every POST take at least that long.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from examples.assistant import reasoning
from examples.assistant.calculator import calculate
from examples.assistant.corpus import search

LARGEST_BODY_BYTES = 1_000_000
RETRY_AFTER_S = 1


class World:
    """What the service knows and counts; shared by its threads."""

    def __init__(self, *, flaky: int = 0, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self._flaky = flaky
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self._answered: dict[str, tuple[Any, dict[str, Any]]] = {}  # body and answer, by path and key
        self._stats: dict[str, Counter[str]] = {}
        self._notes: list[dict[str, str]] = []
        self._routes: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/model/plan": lambda body: reasoning.plan(body["question"], body["notes"]),
            "/model/summary": lambda body: reasoning.summarise(body["question"], body["notes"]),
            "/tools/search": lambda body: {"passages": search(body["query"])},
            "/tools/calculate": lambda body: {"value": calculate(body["expression"])},
            "/notebook": self._keep,
        }

    def read(self, path: str) -> dict[str, Any] | None:
        """The answer to a GET, None if there is no such path."""
        with self._lock:
            match path:
                case "/health":
                    return {"ok": True}
                case "/notebook":
                    return {"notes": list(self._notes)}
                case "/stats":
                    return {name: dict(sorted(counts.items())) for name, counts in sorted(self._stats.items())}
        return None

    def act(self, path: str, body: Any, key: str | None) -> tuple[int, dict[str, Any]]:
        """Status and answer of a POST; one at a time, so that a key is never worked on twice."""
        route = self._routes.get(path)
        if route is None:
            return 404, {"error": f"no {path}; there are {', '.join(sorted(self._routes))}"}
        identity = f"{path} {key or json.dumps(body, sort_keys=True)}"
        with self._lock:
            if key and identity in self._answered:
                earlier, answer = self._answered[identity]
                if earlier != body:
                    return 422, self._count(path, "refused", {"error": f"key {key} belongs to another body"})
                return 200, self._count(path, "repeated", answer)
            self._tries[identity] += 1
            if self._tries[identity] <= self._flaky:
                return 503, self._count(path, "failed", {"error": f"try {self._tries[identity]} fails on purpose"})
            try:
                answer = route(body)
            except (KeyError, TypeError, ValueError) as error:
                return 400, self._count(path, "refused", {"error": f"{type(error).__name__}: {error}"})
            if key:
                self._answered[identity] = body, answer
            return 200, self._count(path, "answered", answer)

    def _keep(self, body: dict[str, Any]) -> dict[str, Any]:
        self._notes.append({"title": str(body["title"]), "text": str(body["text"])})
        return {"kept": True}

    def _count(self, path: str, what: str, answer: dict[str, Any]) -> dict[str, Any]:
        self._stats.setdefault(path, Counter())[what] += 1
        return answer


class Handler(BaseHTTPRequestHandler):
    """Reads JSON, asks the world, writes JSON."""

    world: World  # set by ``serving`` on a subclass of its own
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer = self.world.read(self.path)
        self._answer(404 if answer is None else 200, answer or {"error": f"no {self.path}"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else 0
        if size > LARGEST_BODY_BYTES:
            while size > 0 and (chunk := self.rfile.read(min(size, 65_536))):
                size -= len(chunk)  # read to its end, else the caller would see a reset and not the answer
            self._answer(413, {"error": f"{length} bytes are more than {LARGEST_BODY_BYTES}"})
            return
        content = self.rfile.read(size)
        time.sleep(self.world.latency_s)
        try:
            body = json.loads(content)
        except ValueError as error:
            self._answer(400, {"error": f"not JSON: {error}"})
            return
        self._answer(*self.world.act(self.path, body, self.headers.get("Idempotency-Key")))

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer, sort_keys=True).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 503:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: ``/stats`` says what happened."""


@contextmanager
def serving(*, port: int = 0, flaky: int = 0, latency_s: float = 0.0) -> Iterator[str]:
    """Serves from threads of this process while the block runs; gives the base URL. Port 0: a free one."""
    handler = type("WorldHandler", (Handler,), {"world": World(flaky=flaky, latency_s=latency_s)})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: list[str] | None = None) -> None:
    """The command line; the first line printed is the base URL. Ends on Ctrl-C."""
    parser = argparse.ArgumentParser(description="serve the assistant's outside world on 127.0.0.1")
    parser.add_argument("--port", type=int, default=8808, help="0: a free one")
    parser.add_argument("--flaky", type=int, default=0, help="first tries of each distinct call that fail")
    parser.add_argument("--latency-s", type=float, default=0.0, help="least duration of a POST")
    options = parser.parse_args(arguments)
    with serving(port=options.port, flaky=options.flaky, latency_s=options.latency_s) as url:
        print(url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
