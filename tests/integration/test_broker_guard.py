"""A regression of kombu 5.7.0: a channel of a lost connection must raise what Celery expects of one."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Connection
from kombu.transport.redis import Channel, Transport

from aos_workflow import broker_guard


class NeverConnected(Channel):
    """A channel that does not look for its server when it is made."""

    def __init__(self, connection: Transport) -> None:
        self.connection = connection


def test_a_closed_channel_raises_a_connection_error() -> None:
    """Without a connection, or with one that was let go, there are no parameters but a connection error."""
    broker_guard.guard()
    transport = Transport(Connection("redis://127.0.0.1:7/3"))
    channel: Any = NeverConnected(transport)
    assert channel._connparams()["port"] == 7
    transport.client = None  # what closing a kombu connection does
    for lost in (transport, None):
        channel.connection = lost
        with pytest.raises(transport.connection_errors, match="this channel is closed"):
            channel._connparams()


def test_the_guard_stands_once() -> None:
    """Guarding twice puts one guard in front of kombu's method, not two."""
    broker_guard.guard()
    guarded = Channel._connparams
    broker_guard.guard()
    assert Channel._connparams is guarded
