"""Settings: the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aos_workflow.canonical import without_volatile
from aos_workflow.errors import BadOption, SettingsError
from aos_workflow.terms import golden_share

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, with their defaults. Names in the environment are ``AOS_`` and the upper-case field name.

    database_url          PostgreSQL (or SQLite) of the runs; empty: none is configured
    broker_url            Redis, RabbitMQ ... of the Celery app; empty: the app's own
    redis_url             Redis for budgets and rates
    app                   module with the Celery app and the workflows
    home                  where files live
    input_limit_bytes     largest inputs of a run, canonical text
    output_limit_bytes    largest output of a step, canonical text
    plan_limit_bytes      largest plan, canonical text
    sweep_every_s         how often one worker or beat of the fleet sweeps
    heartbeat_every_s     how often a worker process says that it lives
    worker_ttl_s          a process silent for this long is dead
    pool_size             database connections a process keeps
    window                longest chain of steps in one message
    volatile              JSON pointers left out of the workflow hash, comma-separated
    golden                which finished runs leave a golden file: always, never, or a share such as 0.1
    golden_dir            where golden files are; $AOS_HOME/golden
    golden_secret         GOLDEN_HMAC_SECRET: signs and verifies goldens; without a key none are written
    golden_old_secrets    GOLDEN_HMAC_OLD_SECRETS: still verify, comma-separated
    golden_keys_file      more keys, with their states (see ``signing``); read again when it changes
    golden_retention_days a golden file older than this may be deleted without alarm
    faults                where tests let this process die (see ``faults``); refused unless AOS_TESTING=1
    fault_log             file that receives a line per fault
    """

    database_url: str = ""
    broker_url: str = ""
    redis_url: str = ""
    app: str = ""
    home: Path = Path("/var/lib/aos")
    pg_bindir: Path | None = None
    valkey_server: Path | None = None
    input_limit_bytes: int = MEBIBYTE
    output_limit_bytes: int = 4 * MEBIBYTE
    plan_limit_bytes: int = 64 * MEBIBYTE
    sweep_every_s: float = 1.0
    heartbeat_every_s: float = 1.0
    worker_ttl_s: float = 5.0
    pool_size: int = 2
    window: int = 8
    volatile: tuple[str, ...] = ()
    golden: float = 1.0
    golden_dir: Path = Path("/var/lib/aos/golden")
    golden_secret: str = field(default="", repr=False)
    golden_old_secrets: tuple[str, ...] = field(default=(), repr=False)
    golden_keys_file: Path | None = None
    golden_retention_days: float = 7.0
    faults: str = ""
    fault_log: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read every setting; raises SettingsError naming the variable that is malformed."""
        source = os.environ if environment is None else environment

        def text(name: str) -> str:
            return source.get(f"AOS_{name.upper()}", "").strip()

        def path(name: str) -> Path | None:
            return Path(text(name)) if text(name) else None

        return cls(
            database_url=text("database_url"),
            broker_url=text("broker_url"),
            redis_url=text("redis_url"),
            app=text("app"),
            home=path("home") or cls.home,
            pg_bindir=path("pg_bindir"),
            valkey_server=path("valkey_server"),
            input_limit_bytes=_whole(source, "input_limit_bytes", cls.input_limit_bytes),
            output_limit_bytes=_whole(source, "output_limit_bytes", cls.output_limit_bytes),
            plan_limit_bytes=_whole(source, "plan_limit_bytes", cls.plan_limit_bytes),
            sweep_every_s=_number(source, "sweep_every_s", cls.sweep_every_s),
            heartbeat_every_s=_number(source, "heartbeat_every_s", cls.heartbeat_every_s),
            worker_ttl_s=_number(source, "worker_ttl_s", cls.worker_ttl_s),
            pool_size=_whole(source, "pool_size", cls.pool_size),
            window=_whole(source, "window", cls.window),
            volatile=_volatile(text("volatile")),
            golden=_share(text("golden")),
            golden_dir=path("golden_dir") or (path("home") or cls.home) / "golden",
            golden_secret=source.get("GOLDEN_HMAC_SECRET", "").strip(),
            golden_old_secrets=tuple(_listed(source.get("GOLDEN_HMAC_OLD_SECRETS", ""))),
            golden_keys_file=path("golden_keys_file"),
            golden_retention_days=_number(source, "golden_retention_days", cls.golden_retention_days),
            faults=_faults(source),
            fault_log=path("fault_log"),
        )

    @property
    def signs_goldens(self) -> bool:
        """Is there a key to sign goldens with?"""
        return bool(self.golden_secret or self.golden_keys_file)

    def required_database_url(self) -> str:
        """The database's URL; raises SettingsError when none is configured."""
        if not self.database_url:
            raise SettingsError(
                "AOS_DATABASE_URL is not set",
                fix="set it to postgresql://user:password@host:port/name, or start everything with: aos dev",
            )
        return self.database_url


def variable(field_name: str) -> str:
    """The environment variable of a setting. The keys of goldens keep the names the runbook gives them."""
    return _RUNBOOK_NAMES.get(field_name, f"AOS_{field_name.upper()}")


_RUNBOOK_NAMES = {"golden_secret": "GOLDEN_HMAC_SECRET", "golden_old_secrets": "GOLDEN_HMAC_OLD_SECRETS"}


def environment() -> dict[str, str]:
    """This process's environment, for a child process."""
    return dict(os.environ)


def environment_with(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for a child process."""
    return {**os.environ, **changes}


def _faults(source: Mapping[str, str]) -> str:
    rules = source.get("AOS_FAULTS", "").strip()
    if rules and source.get("AOS_TESTING") != "1":
        raise SettingsError("AOS_FAULTS is set outside of a test", fix="unset it, or set AOS_TESTING=1 as well")
    return rules


def _share(written: str) -> float:
    try:
        return golden_share(written, of="AOS_GOLDEN") if written else Settings.golden
    except BadOption as malformed:
        raise SettingsError(malformed.message, fix=malformed.fix) from None


def _listed(written: str) -> list[str]:
    return [part.strip() for part in written.split(",") if part.strip()]


def _volatile(written: str) -> tuple[str, ...]:
    fields = tuple(_listed(written))
    try:
        without_volatile(None, fields)
    except BadOption as malformed:
        raise SettingsError(f"AOS_VOLATILE: {malformed.message}", fix=malformed.fix) from None
    return fields


def _whole(source: Mapping[str, str], name: str, default: int) -> int:
    value = _number(source, name, default)
    if value != int(value):
        raise SettingsError(f"AOS_{name.upper()}={value:g} is not a whole number", fix=f"the default is {default}")
    return int(value)


def _number(source: Mapping[str, str], name: str, default: float) -> float:
    variable = f"AOS_{name.upper()}"
    written = source.get(variable, "").strip()
    if not written:
        return default
    try:
        value = float(written)
    except ValueError:
        raise SettingsError(f"{variable}={written!r} is not a number", fix=f"the default is {default:g}") from None
    if not 0 < value < float("inf"):
        raise SettingsError(f"{variable}={written!r} is out of range", fix="give a number above 0")
    return value
