"""Embedded PostgreSQL and Valkey: real servers out of wheels, nothing installed, nothing left behind.

A server lives inside one *directory* (data, log, password, lock; both kinds may share it), listens on
127.0.0.1 only and dies with the process that started it, on Linux even when that process gets SIGKILL.
It may be started from any thread. Elsewhere (macOS) the next start in the directory ends an orphan.

PostgreSQL refuses to run as root; a root process runs both servers as ``nobody``. Binaries which ``nobody``
cannot reach are copied below the directory; nothing outside the directory is ever changed.
In a child made by ``os.fork`` a server's ``stop`` and ``kill`` do nothing: it belongs to the parent.
"""

from aos_workflow.embedded.postgres import PostgresServer, start_postgres
from aos_workflow.embedded.valkey import ValkeyServer, start_valkey

__all__ = ["PostgresServer", "ValkeyServer", "start_postgres", "start_valkey"]
