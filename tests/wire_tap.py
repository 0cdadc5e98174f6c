"""A tap on the wire to PostgreSQL: a proxy that writes down every query a client sends, and changes nothing.

It counts what a client waits for, whichever library sent it: each simple query (``Q``) and each ``Sync`` (``S``) is
answered by one ``ReadyForQuery``, so it is one round trip. BEGIN, COMMIT and SET are queries like any other.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_PROTOCOL_3 = 196608
_CHUNK = 65536


class WireTap:
    """Listens on ``port`` and passes everything on to the server of ``url``; ``close`` cuts all connections."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self._server = (server.hostname or "127.0.0.1", server.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        self.url = url.replace(f"@{server.hostname}:{server.port}/", f"@127.0.0.1:{self.port}/")
        self.queries: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                threading.Thread(target=self._listen, args=(client, server), daemon=True).start()
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()

    def _listen(self, client: socket.socket, server: socket.socket) -> None:
        """Pass the client's messages on, one by one."""
        with contextlib.suppress(OSError, EOFError):
            for kind, message in _messages(client):
                if kind == b"Q":
                    self.queries.append(message[5:-1].decode())
                elif kind == b"S":
                    self.queries.append("(sync)")
                server.sendall(message)
        _hang_up(server)


def _messages(client: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """(type, whole message); the messages before the session starts have no type."""
    started = False
    while True:
        kind = _exactly(client, 1) if started else b""
        head = _exactly(client, 4)
        body = _exactly(client, struct.unpack("!I", head)[0] - 4)
        started = started or struct.unpack("!I", body[:4])[0] == _PROTOCOL_3
        yield kind, kind + head + body


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(min(_CHUNK, size - len(data)))
        if not part:
            raise EOFError
        data += part
    return data


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(_CHUNK):
            target.sendall(part)
    _hang_up(target)


def _hang_up(target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
