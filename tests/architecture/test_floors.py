"""The rules of the house that no single module can keep for itself.

import-linter checks floors and doors from setup.cfg; what it cannot see (names, lengths, calls of the clock,
the environment) is read here from the syntax trees of the checkout.
"""

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter import api

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aos_workflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
DEPLOYED = [
    *MODULES,
    *sorted(path for folder in ("workers", "beat") for path in (ROOT / folder).rglob("*.py")),
]

SHORT_LINES, LONGEST_LINES = 300, 400
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "misc", "model", "models"}

# The frozen nouns and all below them: standard library only.
BEDROCK = {"errors", "clock", "ids", "events", "canonical", "signing", "plan", "records", "divergence"}

# Rooms that hand an environment to a child process or change their own on purpose; they decide nothing by it.
CHILD_ENVIRONMENT = {"embedded.py", "replay/observing.py"}

ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
WALL_CLOCK = {
    "time.time",
    "time.time_ns",
    "time.ctime",
    "time.gmtime",
    "time.localtime",
    "time.strftime",
    "time.clock_gettime",
    "time.clock_gettime_ns",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "datetime.date.today",
}


def names_used(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Yield (dotted name, line, is it called) of each imported name the tree uses, whatever its alias."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                aliases[name.asname or top] = name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, _, rest = ast.unparse(node).partition(".")
            if first in aliases:
                yield ".".join(filter(None, [aliases[first], rest])), node.lineno, id(node) in called


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, line: int | None = None) -> str:
    return str(path.relative_to(ROOT)) + (f":{line}" if line else "")


def lint_imports(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command as lint; lint(['--no-logo', '--no-cache'])"
    return subprocess.run([sys.executable, "-c", command], cwd=checkout, capture_output=True, text=True, check=False)


def test_floors_and_doors_hold() -> None:
    """Every contract in setup.cfg is kept by the package as it is."""
    report = lint_imports(ROOT)
    assert report.returncode == 0, report.stdout + report.stderr


@pytest.mark.parametrize(
    ("room", "source", "broken"),
    [
        ("clock.py", "from aos_workflow import engine", "A room imports only from the floors below its own"),
        ("attic.py", "", "A room imports only from the floors below its own"),
        (
            "executor.py",
            "from aos_workflow import perform",
            "Rooms on one floor do not import each other in circles",
        ),
        ("policies.py", "import redis", "Redis is spoken to by the ledger only"),
        ("policies.py", "def later():\n    from sqlalchemy.orm import Session", "SQL is spoken by the store"),
        ("plan.py", "from random import random", "Chance comes from ids, context and determinism only"),
        ("cli/runs.py", "import pickle", "Values travel as JSON, never as pickles"),
    ],
)
def test_a_breach_is_noticed(room: str, source: str, broken: str, tmp_path: Path) -> None:
    """A package with one breach of a contract fails that contract."""
    rooms = {"errors.py": "", "engine.py": "", "perform.py": "from aos_workflow import executor"}
    for name, text in {"__init__.py": "", "cli/__init__.py": "", **rooms, room: source}.items():
        path = tmp_path / "aos_workflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    report = lint_imports(tmp_path)
    verdicts = " ".join(report.stdout.split())
    assert report.returncode == 1, report.stdout + report.stderr
    assert re.search(re.escape(broken) + r"((?!KEPT).)* BROKEN", verdicts), report.stdout


def test_every_room_is_listed_once() -> None:
    """Each module of the package stands on exactly one floor, and the floors are checked exhaustively."""
    contracts = api.read_configuration(str(ROOT / "setup.cfg"))["contracts_options"]
    floors = next(contract for contract in contracts if contract["id"] == "floors")
    listed = [room.strip(" ()") for floor in floors["layers"] for room in floor.split(":")]
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert floors["exhaustive"] == "true"
    assert sorted(listed) == sorted(set(listed))
    assert rooms <= set(listed), f"not on any floor in setup.cfg: {sorted(rooms - set(listed))}"


def test_bedrock_needs_the_standard_library_only() -> None:
    """The nouns and what they stand on import nothing that has to be installed."""
    foreign = []
    for path in (PACKAGE / f"{room}.py" for room in sorted(BEDROCK)):
        for node in ast.walk(parsed(path)) if path.exists() else ():
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            foreign += [
                f"{place(path, node.lineno)} {top}" for top in tops - sys.stdlib_module_names - {"aos_workflow"}
            ]
    assert foreign == []


def test_rooms_do_not_import_from_the_front_door() -> None:
    """Inside the package a name comes from its own room: `from aos_workflow import Name` hides its floor."""
    rooms = {path.stem for path in PACKAGE.iterdir()}
    hidden = [
        f"{place(path, node.lineno)} {name.name}"
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.module == "aos_workflow"
        for name in node.names
        if name.name not in rooms
    ]
    assert hidden == []


def test_no_file_is_named_after_nothing() -> None:
    """A file is named for what is in it: utils, helpers, common, base and models say nothing."""
    sources = (
        path for folder in ("aos_workflow", "workers", "beat", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    empty = [
        place(path)
        for path in sources
        if EMPTY_NAMES & {p.strip("_") for p in path.relative_to(ROOT).with_suffix("").parts}
    ]
    assert empty == []


def test_files_are_short() -> None:
    """No file is longer than 400 lines, and nine of ten stay within 300."""
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in DEPLOYED}
    long = {name: lines for name, lines in sorted(lengths.items(), key=lambda item: -item[1]) if lines > SHORT_LINES}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_LINES} == {}
    assert len(long) <= len(lengths) / 10, f"longer than {SHORT_LINES} lines: {long}"


def test_only_settings_reads_the_environment() -> None:
    """os.environ is read in settings; the few rooms that start children may copy it for them."""
    allowed = {PACKAGE / "settings.py", *(PACKAGE / room for room in CHILD_ENVIRONMENT)}
    readers = [
        f"{place(path, line)} {name}"
        for path in DEPLOYED
        if path not in allowed
        for name, line, _ in names_used(parsed(path))
        if name in ENVIRONMENT
    ]
    assert readers == []


def test_only_clock_asks_for_the_time() -> None:
    """The wall clock is read in clock; determinism may name its functions to capture them, not call them."""
    askers = [
        f"{place(path, line)} {name}"
        for path in DEPLOYED
        if path != PACKAGE / "clock.py"
        for name, line, called in names_used(parsed(path))
        if name in WALL_CLOCK and (called or PACKAGE / "determinism" not in path.parents)
    ]
    assert askers == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import time\ntime.time()", "time.time"),
        ("import time as t\nf = t.time_ns", "time.time_ns"),
        ("from time import time as now\nnow()", "time.time"),
        ("from datetime import datetime\ndatetime.now(tz)", "datetime.datetime.now"),
        ("import datetime as dt\ndt.date.today()", "datetime.date.today"),
        ("def f():\n    import os\n    return {**os.environ}", "os.environ"),
        ("from os import environ\nenviron['X']", "os.environ"),
    ],
)
def test_an_alias_does_not_hide_a_name(source: str, name: str) -> None:
    """The scan sees through every way of importing a name."""
    assert name in {used for used, _, _ in names_used(ast.parse(source))}


def test_nothing_is_pickled_anywhere() -> None:
    """No file of the checkout, tests and programs included, imports a module that runs what it reads.

    One test does: it shows that what *other* people pickle goes on working beside the capture.
    """
    of_others = ROOT / "tests" / "unit" / "test_ambient.py"
    pickles = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
    folders = ("aos_workflow", "workers", "beat", "scripts", "examples", "benchmarks", "tests")
    importers = [
        place(path, node.lineno)
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != of_others
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Import) and pickles & {name.name.partition(".")[0] for name in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in pickles)
    ]
    assert importers == []


def test_each_test_states_its_rule() -> None:
    """Every test function carries a docstring: the one sentence that it proves."""
    silent = [
        f"{place(path, node.lineno)} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []
