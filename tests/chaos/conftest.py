"""Chaos runs against a PostgreSQL that keeps what it acknowledged."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def durable_database() -> bool:
    return True
