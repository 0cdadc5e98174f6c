"""``aos lint``: find what would make a step give another result the next time, before it runs."""

from __future__ import annotations

import os
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from aos_workflow.cli.output import json_option, print_json
from aos_workflow.determinism.lint import Finding
from aos_workflow.determinism.lint import lint as lint_source
from aos_workflow.errors import DefinitionError

#: Folders in which no project keeps its own code.
PASSED_BY = frozenset({"__pycache__", "node_modules", "site-packages"})


@click.command(name="lint")
@click.argument("places", metavar="MODULE_OR_PATH...", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Check every function, not only what steps lead to.")
@json_option
def lint(places: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Find sources of non-determinism in the steps of these files, folders or modules.

    Nothing is imported or run. Exit status 1 if something is found. `# aos: allow[rule]` at the end of a line
    accepts what is found there.
    """
    files = list(dict.fromkeys(file for place in places for file in _files(place)))
    found = [finding for file in files for finding in _findings(file, everything=everything)]
    if as_json:
        print_json({"findings": [finding.as_json() for finding in found], "files": len(files)})
    else:
        for finding in found:
            click.echo(_line(finding))
        click.echo(_summary(found, len(files)))
    sys.exit(1 if found else 0)


def _line(finding: Finding) -> str:
    where = f"{finding.file}:{finding.line}:{finding.column}"
    return f"{where}: {finding.rule} {finding.message}; {finding.fix}"


def _summary(found: list[Finding], files: int) -> str:
    if not found:
        return f"no findings in {_count(files, 'file')}"
    return f"{_count(len(found), 'finding')} in {_count(len(Counter(finding.file for finding in found)), 'file')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _findings(file: Path, *, everything: bool) -> list[Finding]:
    """Raises DefinitionError for a file that is no Python."""
    try:
        with tokenize.open(file) as opened:  # as Python itself would decode it
            return lint_source(opened.read(), file=str(file), everything=everything)
    except (SyntaxError, ValueError) as error:
        where = f"{file}:{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else str(file)
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise DefinitionError(f"{where} cannot be parsed: {reason}", fix="give files of Python") from error
    except RecursionError:
        raise DefinitionError(f"{file} cannot be parsed: it is nested too deep", fix="leave it out") from None
    except OSError as error:
        raise DefinitionError(f"{file} cannot be read: {error.strerror}", fix="give files that you may read") from error


def _files(place: str) -> Iterator[Path]:
    """The files of a path or module, sorted. Raises DefinitionError if there are none."""
    path = Path(place)
    if not path.exists():
        path = _module(place)
    if path.is_file():
        yield path
        return
    found = sorted(_below(path))
    if not found:
        raise DefinitionError(f"{path} holds no Python file", fix="name a file, a folder with Python files or a module")
    yield from found


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        inside = Path(place)
        folders[:] = [name for name in folders if not _is_passed_by(inside / name)]
        yield from (inside / name for name in files if name.endswith(".py"))


def _is_passed_by(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in PASSED_BY or (folder / "pyvenv.cfg").exists()


def _module(name: str) -> Path:
    """Where the module or package is. Asked of ``sys.path`` only: an import would run its parents."""
    parts = name.split(".")
    if all(part.isidentifier() for part in parts):
        for candidate in _candidates(sys.path, parts):
            if candidate.exists():
                return candidate.parent if candidate.name == "__init__.py" else candidate
    raise DefinitionError(
        f"there is no file, folder or module {name!r}",
        fix="give a path, or a module that lies in the current folder or on PYTHONPATH",
    )


def _candidates(folders: Iterable[str], parts: list[str]) -> Iterator[Path]:
    """A package or a module in any of the folders goes before a folder without ``__init__.py``."""
    bases = [Path(folder or ".").joinpath(*parts) for folder in folders]
    for base in bases:
        yield base / "__init__.py"
        yield base.with_name(f"{base.name}.py")
    yield from (base for base in bases if base.is_dir())
