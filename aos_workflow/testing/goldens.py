"""Goldens as tests: what ``pytest --goldens DIR`` collects and runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.assembly import Runtime
from aos_workflow.errors import AosError
from aos_workflow.settings import Settings

_PARTS = pytest.StashKey[Runtime]()
_FOLDERS = pytest.StashKey[tuple[Path, ...]]()


def prepare(config: pytest.Config, folders: Sequence[str]) -> None:
    """Add the folders to what is collected; raises UsageError if there is nothing to replay, or no app to do it."""
    for folder in folders:
        if not any(Path(folder).glob("*.json")):
            raise pytest.UsageError(f"--goldens {folder}: there is no golden (*.json)")
    try:
        settings = Settings.from_environment()
    except AosError as malformed:
        raise pytest.UsageError(str(malformed)) from None
    app = config.getoption("--aos-app") or settings.app
    if not app:
        raise pytest.UsageError("--goldens needs --aos-app MODULE or AOS_APP: where the workflows are")
    config.stash[_PARTS] = Runtime(replace(settings, app=app, database_url=""), kind="test")
    config.stash[_FOLDERS] = tuple(Path(folder).resolve() for folder in folders)
    config.args.extend(str(folder) for folder in folders)


def finish(config: pytest.Config) -> None:
    """End the process that replayed."""
    if _PARTS in config.stash:
        config.stash[_PARTS].close()


def golden_file(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """What is collected of a file; None if it is in none of the folders."""
    if path.parent.resolve() not in parent.config.stash.get(_FOLDERS, ()):
        return None
    return GoldenFile.from_parent(parent, path=path)


class GoldenFile(pytest.File):
    """One golden."""

    def collect(self) -> Iterator[pytest.Item]:
        yield GoldenItem.from_parent(self, name="replay")


class GoldenDiverged(Exception):
    """A golden did not give its recorded answer."""


class GoldenItem(pytest.Item):
    """The golden is performed again, and gives the recorded answer."""

    def runtest(self) -> None:
        answer = self.config.stash[_PARTS].judge(str(self.path))
        if answer["verdict"] not in ("matched", "ignored"):
            raise GoldenDiverged(reason(answer))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The reason alone: where in the plugin it was raised tells nobody anything."""
        if isinstance(excinfo.value, GoldenDiverged | AosError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"golden {self.path.name}"


def reason(answer: dict[str, Any]) -> str:
    """Why a golden is not matched, in a few lines."""
    found, error = answer["divergence"], answer.get("error")
    if error:
        return f"{error['message']}; {error['fix']}"
    lines = [
        f"{answer['workflow']} (run {answer['run_id']}) diverged",
        f"  at        {found['address']} {found['path'] or '(the whole output)'}",
        f"  recorded  {found['recorded']!r:.300}",
        f"  observed  {found['observed']!r:.300}",
    ]
    if found["cause"]:
        where = f" at {found['location']}" if found["location"] else ""
        lines += [f"  cause     {found['cause']}{where}", f"  fix       {found['fix']}"]
    return "\n".join(lines)
