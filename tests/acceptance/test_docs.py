"""Every Python block in README and docs runs; every shell block is a command that CI or another test runs.

A block whose first line is ``# name.py`` is a file, and tests if that is ``# test_name.py``; the other blocks
of a page run in order, in one process, beside the page's files, against a fresh SQLite database.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import click
import pytest

from aos_workflow import errors
from aos_workflow.cli import aos
from aos_workflow.settings import Settings, environment_with, variable
from aos_workflow.upgrade import upgrade
from tests.aos_command import pytest_command

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
RUN_MAIN = "import runpy; runpy.run_path({name!r}, run_name='__main__')"
#: Stop at the first error, end what was put into the background, and use the servers of ``aos dev``.
PROLOGUE = "set -e; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT; . ./home/env"
#: Pages whose shell commands run beside ``aos dev``, and the app that it serves.
APPS = {
    ROOT / "docs/tutorial/first-workflow.md": "orders",
    ROOT / "examples/trips/README.md": "examples.trips.app",
    ROOT / "examples/assistant/README.md": "examples.assistant.app",
}


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """The Python of a page does what the page says."""
    code = blocks(page, "python")
    files = {match[1]: block for block in code if (match := FILE.match(block))}
    for name, block in files.items():
        (tmp_path / name).write_text(block, encoding="utf-8")
    script = "\n".join(block for block in code if not FILE.match(block)) or RUN_MAIN.format(name=next(iter(files)))
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'page.db'}"
    upgrade(url)
    environment = environment_with(AOS_DATABASE_URL=url, PYTHONPATH=f"{tmp_path}:{ROOT}")
    tests = [name for name in files if name.startswith("test_")]
    for command in ([sys.executable, "page.py"], *([pytest_command("-q", *tests)] if tests else [])):
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.services
@pytest.mark.worker
@pytest.mark.parametrize("page", APPS, ids=lambda page: APPS[page])
def test_shell_blocks_run(page: Path, home: Path) -> None:
    """The shell commands of a page work, beside the ``aos dev`` that the page starts or presumes."""
    for block in blocks(page, "python"):
        if match := FILE.match(block):
            (home / match[1]).write_text(block, encoding="utf-8")
    commands = [block for kind in ("bash", "console") for block in blocks(page, kind) if "aos dev" not in block]
    script = "\n".join([PROLOGUE, *map(typed, commands)])
    environment = environment_with(
        AOS_HOME=str(home / "home"), PATH=f"{BIN}:/usr/bin:/bin", PYTHONPATH=f"{home}:{ROOT}", AOS_DATABASE_URL=""
    )
    with dev_server(APPS[page], home, environment):
        ran = subprocess.run(
            ["bash", "-c", script], cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def typed(block: str) -> str:
    """What a person types: of a console block the lines behind ``$`` and their continuations."""
    if not block.startswith("$ "):
        return block
    lines, is_typed = [], False
    for line in block.splitlines():
        is_typed = line.startswith("$ ") or (is_typed and line.startswith("  "))
        if is_typed:
            lines.append(line.removeprefix("$ "))
    return "\n".join(lines)


@contextmanager
def dev_server(app: str, home: Path, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "aos_workflow.cli", "dev", "--app", app]
    log = home / "dev.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while "is ready" not in log.read_text(encoding="utf-8"):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that the embedded servers may enter, also as root."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_make_commands_are_run_by_ci() -> None:
    """The README's two commands are the ones that CI runs."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    assert commands == ["make demo", "make test"]
    assert [command for command in commands if command not in ci] == []


def test_languages_are_known() -> None:
    """No block escapes: each is Python, a shell command, JSON or plain text."""
    kinds = {(page.name, kind) for page in PAGES for kind, _ in FENCE.findall(page.read_text(encoding="utf-8"))}
    assert {kind for _, kind in kinds} <= {"bash", "console", "json", "python", "text"}, kinds


def test_links_resolve() -> None:
    """Every relative link of README, docs and examples points to a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_setting_is_documented() -> None:
    """The settings page lists exactly the variables that are read."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\| `((?:AOS|GOLDEN_HMAC)_\w+)`", page, re.MULTILINE))
    assert written == {variable(field.name) for field in fields(Settings) if not field.name.startswith("fault")}


def test_every_error_is_documented() -> None:
    """The error page lists every error class with its code and whether trying again helps."""
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AosError)]
    rows = [f"| `{kind.__name__}` | `{kind.code}` | {'yes' if kind.retryable else 'no'} |" for kind in classes]
    assert [row for row in rows if row not in page] == []


def test_every_command_is_documented() -> None:
    """The commands page has a row for every command there is, and for none that there is not."""
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `aos ([\w ]+)`", page, re.MULTILINE)) == set(command_names(aos))


def command_names(group: click.Group) -> list[str]:
    context = click.Context(group)
    names = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        names += [f"{name} {below}" for below in command_names(command)] if isinstance(command, click.Group) else [name]
    return names
