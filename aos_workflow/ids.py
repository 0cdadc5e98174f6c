"""Names for new things: runs, worker processes, claims.

A run's id starts with its creation time, so ids sort by age and indexes stay dense
(the layout of UUID version 7, RFC 9562 section 5.7).
"""

from __future__ import annotations

import os
import uuid

from aos_workflow.clock import SystemClock

_clock = SystemClock()


def new_run_id() -> str:
    """A fresh UUIDv7 in its usual text form, 36 characters."""
    milliseconds = int(_clock.now() * 1000) & (2**48 - 1)
    noise = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | noise
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def new_worker_id() -> str:
    """A fresh id for one life of one worker process."""
    return "w-" + os.urandom(8).hex()


def new_token() -> str:
    """A fresh id for one claim, by which its owner recognises it after a lost reply."""
    return os.urandom(8).hex()


def new_secret() -> str:
    """A fresh key for signing goldens: 32 bytes as 64 hex digits, as ``openssl rand -hex 32`` gives."""
    return os.urandom(32).hex()


def new_seed() -> int:
    """A run seed for callers who gave none: 0 <= seed < 2**63."""
    return int.from_bytes(os.urandom(8), "big") >> 1
