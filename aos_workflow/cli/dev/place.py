"""Where ``aos dev`` keeps its files, and what it tells other terminals."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import socket
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from aos_workflow.cli import output
from aos_workflow.ids import new_secret
from aos_workflow.registry import registered
from aos_workflow.settings import Settings, environment_with


def folder_for(settings: Settings) -> Path:
    """AOS_HOME, or else ``./.aos``; made if need be.

    Root's servers run as ``nobody``. Where that account cannot go (below ``/root``) it is a folder of this
    folder's own below ``/var/lib/aos`` instead.
    """
    if environment_with().get("AOS_HOME"):
        folder = settings.home
    else:
        here = Path.cwd()
        folder = here / ".aos"
        if os.geteuid() == 0 and not _is_open(here):
            folder = Settings.home / f"dev-{hashlib.sha256(os.fsencode(here)).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def with_goldens(settings: Settings, folder: Path) -> Settings:
    """The settings with a folder for goldens, and with a key of this folder's own where none is configured."""
    if environment_with().get("AOS_GOLDEN_DIR") is None:
        settings = replace(settings, golden_dir=folder / "golden")
    if settings.signs_goldens:
        return settings
    file = folder / "golden-keys.json"
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
            json.dump([{"secret": new_secret(), "state": "active"}], written)
    return replace(settings, golden_keys_file=file)


def golden_variables(settings: Settings) -> dict[str, str]:
    """What other processes must know to write and verify the same goldens; a secret is in a file, never here."""
    return {
        "AOS_GOLDEN_DIR": str(settings.golden_dir),
        "AOS_GOLDEN_KEYS_FILE": str(settings.golden_keys_file or ""),
    }


def _is_open(folder: Path) -> bool:
    """May everybody pass through this folder and all above it?"""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


class Ports:
    """The ports of last time, so that what other terminals were told stays true; a free one where one is taken."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ports.json"
        try:
            self._known: dict[str, int] = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def of(self, name: str) -> int | None:
        """The port of last time if it is free; None lets the server take any."""
        port = self._known.get(name)
        if not isinstance(port, int):
            return None
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return None
        return port

    def remember(self, name: str, port: int) -> None:
        self._known[name] = port
        self._file.write_text(json.dumps(self._known), encoding="utf-8")


def tell(folder: Path, variables: Mapping[str, str]) -> None:
    """Print what another terminal needs, and keep it in a file that it can source."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items() if value]
    file = folder / "env"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as written:
        written.write("\n".join(lines) + "\n")
    click.echo(f"\nFor another terminal (or: source {_near(file)}):\n")
    for line in lines:
        click.echo(f"  {line}")
    names = registered()
    click.echo()
    if names:
        output.print_facts(
            [("workflows", ", ".join(names)), ("start a run", f"aos run {names[0]} --input '{{...}}' --wait")]
        )
    else:
        output.print_facts([("workflows", "none; name the module that has yours: aos dev --app yourmodule")])
    click.echo("\nCtrl-C stops everything.\n")


def _near(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)
