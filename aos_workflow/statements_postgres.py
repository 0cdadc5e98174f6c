"""The hot path on PostgreSQL: each verb is one statement in ``sql/``, sent as one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection

Row = Mapping[Any, Any]


@cache
def _statement(name: str) -> str:
    return (files("aos_workflow") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def _one(connection: Connection, name: str, values: Mapping[str, Any]) -> Row | None:
    return connection.exec_driver_sql(_statement(name), dict(values)).mappings().one_or_none()


def claim(connection: Connection, values: Mapping[str, Any]) -> Row:
    """The verdict on one claim, with all the claimant needs. See ``sql/claim.sql``."""
    row = _one(connection, "claim", values)
    assert row is not None
    return row


def commit(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """The run's row after the commit, or None if the attempt no longer holds the step."""
    return _one(connection, "commit", values)


def settle(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """When the step is due again, or None if the attempt no longer holds it."""
    return _one(connection, "settle", values)


def fail(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """The run's row if this failure decided it, else None."""
    return _one(connection, "fail", values)


def now(connection: Connection) -> float:
    """The database's clock, seconds since the epoch."""
    return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one())
