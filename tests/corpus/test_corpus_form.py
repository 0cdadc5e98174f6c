"""The corpus is what it says: enough cases of every class, marked lines, unique names. Read from its sources."""

import ast
import re
from collections import Counter

from tests.corpus.case import CLASSES, FOLDER, MARK, batches, cause_of, names, written

MODULES = [(kind, name) for kind in ("faults", "clean") for name in names(kind)]


def source(kind: str, name: str) -> str:
    return (FOLDER / kind / f"{name}.py").read_text(encoding="utf-8")


def test_there_are_enough_cases() -> None:
    """At least 45 planted faults, 45 clean workflows, and three faults of each class."""
    causes = Counter(map(cause_of, names("faults")))
    assert len(names("faults")) >= 45
    assert len(names("clean")) >= 45
    assert set(causes) == set(CLASSES)
    assert min(causes.values()) >= 3, causes


def test_every_case_is_judged_once() -> None:
    """The batches hold every case, none twice."""
    judged = [case for batch in batches().values() for case in batch]
    assert sorted(judged) == sorted(MODULES)


def test_names_are_unique() -> None:
    """Modules, workflows and tasks have a name of their own; the workflow's is the module's."""
    counts = Counter(name for _, name in MODULES)
    assert max(counts.values()) == 1
    for kind, name in MODULES:
        text = source(kind, name)
        assert re.search(rf'^flow = Workflow\(\s*"{name}"', text, re.M), f"{kind}/{name}: the workflow is not so named"
        tasks = re.findall(r"^@(?:shared_task|app\.task|step)\(\s*(.*)", text, re.M)
        assert tasks, f"{kind}/{name} has no task"
        assert all(f'name="{name}.' in task for task in tasks), f"{kind}/{name}: a task without a name of its own"
        task_names = re.findall(rf'name="({name}\.\w+)"', text)
        assert len(task_names) == len(set(task_names)), f"{kind}/{name}: two tasks of one name"


def test_faults_are_marked() -> None:
    """Every fault carries the mark on a line of its files; no clean workflow does."""
    for name in names("faults"):
        given = written("faults", name)
        others = ast.literal_eval(given["files"]) if "files" in given else ()
        text = "".join(source("faults", file.removesuffix(".py")) for file in (f"{name}.py", *others))
        assert MARK in text, f"faults/{name}: no line is marked"
    assert [name for name in names("clean") if MARK in source("clean", name)] == []


def test_parts_of_cases_are_used() -> None:
    """A module with a leading underscore is a file of exactly one case."""
    used = Counter(
        file
        for name in names("faults")
        for file in ast.literal_eval(written("faults", name).get("files", ast.parse("()", mode="eval").body))
    )
    assert used == Counter(path.name for path in (FOLDER / "faults").glob("_*.py"))


def test_faults_that_are_captured_and_faults_that_are_not() -> None:
    """The corpus holds faults with capture switched off, under the default, and ones that the recording serves."""
    off = [name for name in names("faults") if 'capture="none"' in source("faults", name)]
    served = [name for name in names("faults") if _expected(name) == "matched"]
    assert len(off) >= 20
    assert len(served) >= 5
    assert len(names("faults")) - len(off) >= 20


def _expected(name: str) -> str:
    given = written("faults", name)
    return str(ast.literal_eval(given["expected"])) if "expected" in given else "diverged"
