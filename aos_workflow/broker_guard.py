"""Broker guard: what kombu's Redis transport needs so that a short absence of Redis does not end a worker.

kombu 5.7.0 (with celery 5.7.0) restores unacknowledged messages while it closes a lost connection. By then
the transport has let go of its connection, the channel's pool is gone too, and the channel asks ``None`` for
its hostname. Nobody expects an AttributeError there: the worker's main process ends ("Unrecoverable error"),
with ``prefork -c 2`` and one step under way 8 times in 8. With a connection error, which is what it is,
Celery goes on and reconnects, and the message that could not be given back is the sweep's work.
"""

from __future__ import annotations

from typing import Any


def guard() -> None:
    """Let a closed channel raise ConnectionError; doing it again changes nothing, nor does it without Redis."""
    try:
        from kombu.transport.redis import Channel
    except ImportError:
        return
    original: Any = Channel._connparams
    if getattr(original, "is_guarded", False):
        return

    def connection_parameters(self: Any, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("this channel is closed")
        return original(self, asynchronous)

    connection_parameters.is_guarded = True  # type: ignore[attr-defined]
    Channel._connparams = connection_parameters  # type: ignore[method-assign]
