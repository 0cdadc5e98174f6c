"""Every Python block in README and docs runs; every shell block is a command that CI or another test runs.

A block whose first line is ``# name.py`` is a file; the other blocks of a page run in order, in one process,
beside the page's files, against a fresh SQLite database.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

from aos_workflow import errors
from aos_workflow.cli import aos
from aos_workflow.settings import Settings, environment_with
from aos_workflow.upgrade import upgrade

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
RUN_MAIN = "import runpy; runpy.run_path({name!r}, run_name='__main__')"
#: Shell commands of the docs, and what runs them.
RUN_ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "python -m examples.trips.generate --out /tmp/trips": "tests/unit/test_examples.py",
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
    script = (
        "\n".join(block for block in code if not FILE.match(block))
        or f"import runpy; runpy.run_path({[*files][0]!r}, run_name='__main__')"
    )
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'page.db'}"
    upgrade(url)
    environment = environment_with(AOS_DATABASE_URL=url, PYTHONPATH=f"{tmp_path}:{ROOT}")
    ran = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_languages_are_known() -> None:
    """No block escapes: each is Python, a shell command, JSON or plain text."""
    kinds = {(page.name, kind) for page in PAGES for kind, _ in FENCE.findall(page.read_text(encoding="utf-8"))}
    assert {kind for _, kind in kinds} <= {"python", "bash", "text"}, kinds


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
    written = set(re.findall(r"^\| `(AOS_\w+)`", page, re.MULTILINE))
    assert written == {f"AOS_{field.name.upper()}" for field in fields(Settings) if not field.name.startswith("fault")}


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
