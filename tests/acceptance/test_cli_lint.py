"""``aos lint`` as people, CI and pre-commit run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aos_workflow.determinism.lint import RULES
from tests.aos_command import Done, aos

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "lint.md"
TIMED = "import time\nfrom aos_workflow import step\n@step\ndef at():\n    return time.time()\n"
CLEAN = "from aos_workflow import step\n@step\ndef at(ctx):\n    return ctx.now\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a package of clean and timed modules, and files that are nobody's code."""
    files = {
        "shop/__init__.py": "raise SystemExit('imported')",
        "shop/timed.py": TIMED,
        "shop/clean.py": CLEAN,
        "shop/deep/late.py": TIMED,
        "loose/more.py": TIMED,
        "torn.py": "def f(:\n",
        "latin.py": "# coding: latin-1\nx = 'é'\n",
        "empty/notes.txt": "",
        "shop/.venv/lib.py": TIMED,
        "shop/env/pyvenv.cfg": "",
        "shop/env/lib.py": TIMED,
        "shop/node_modules/lib.py": TIMED,
        "shop/__pycache__/lib.py": TIMED,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    return tmp_path


def test_a_finding_is_a_line_to_click_on(project: Path) -> None:
    """Path, line, column, rule, what is wrong and the fix are one line each, then a summary; status 1."""
    done = aos("lint", "shop/timed.py", "shop/clean.py", "shop/deep/late.py", folder=project)
    says = "wall-clock time.time() reads the clock of whoever performs the step; use ctx.now, the run's logical time"
    expected = f"shop/timed.py:5:12: {says}\nshop/deep/late.py:5:12: {says}\n2 findings in 2 files\n"
    assert done == Done(status=1, out=expected, err="")


def test_clean_files_are_status_0(project: Path) -> None:
    """Nothing found is one line that says how many files were looked at."""
    done = aos("lint", "shop/clean.py", "shop/__init__.py", "latin.py", "shop/clean.py", folder=project)
    assert done == Done(status=0, out="no findings in 3 files\n", err="")


def test_programs_read_one_document(project: Path) -> None:
    """With --json the findings and the number of files are one document, and the status is the same."""
    done = aos("lint", "--json", "shop/timed.py", "shop/clean.py", folder=project)
    assert (done.status, done.document) == (
        1,
        {
            "findings": [
                {
                    "file": "shop/timed.py",
                    "line": 5,
                    "column": 12,
                    "rule": "wall-clock",
                    "cause": "wall_clock",
                    "message": "time.time() reads the clock of whoever performs the step",
                    "fix": "use ctx.now, the run's logical time",
                    "step": "at",
                }
            ],
            "files": 2,
        },
    )
    clean = aos("lint", "--json", "shop/clean.py", folder=project)
    assert (clean.status, clean.document) == (0, {"findings": [], "files": 1})


@pytest.mark.parametrize(
    ("place", "files"),
    [
        ("shop", ["shop/deep/late.py", "shop/timed.py"]),
        ("shop.timed", ["shop/timed.py"]),
        ("shop.deep", ["shop/deep/late.py"]),
        ("shop.deep.late", ["shop/deep/late.py"]),
        ("more", ["loose/more.py"]),
        (".", None),
    ],
)
def test_folders_and_modules_are_found_without_an_import(place: str, files: list[str] | None, project: Path) -> None:
    """A folder is walked, a dotted name looked for on the path; no package is imported, no environment walked."""
    if files is None:
        (project / "torn.py").unlink()
        files = ["loose/more.py", "shop/deep/late.py", "shop/timed.py"]
    done = aos("lint", "--json", place, folder=project, PYTHONPATH=f"{Path(__file__).parents[2]}:{project / 'loose'}")
    found = [(project / finding["file"]).relative_to(project) for finding in done.document["findings"]]
    assert [str(file) for file in found] == files


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere.py", "there is no file, folder or module 'nowhere.py'"),
        ("shop.nowhere", "there is no file, folder or module 'shop.nowhere'"),
        ("../../etc/none", "there is no file, folder or module"),
        ("torn.py", "torn.py:1 cannot be parsed: invalid syntax"),
        ("zeros.py", "zeros.py cannot be parsed"),
        ("empty", "empty holds no Python file"),
    ],
)
def test_what_cannot_be_read_is_one_line(place: str, says: str, project: Path) -> None:
    """A place that cannot be found or parsed is one line on stderr and status 1; nothing of the others is shown."""
    (project / "zeros.py").write_bytes(b"x = 1\n\0\n")
    done = aos("lint", "shop/timed.py", place, folder=project)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("aos: ")
    assert done.err.count("\n") == 1
    assert says in done.err


def test_all_checks_what_no_step_leads_to(project: Path) -> None:
    """With --all every function counts."""
    (project / "help.py").write_text("import time\ndef f():\n    return time.time()\n")
    assert aos("lint", "help.py", folder=project).status == 0
    assert aos("lint", "--all", "help.py", folder=project).status == 1


def test_no_place_is_a_wrong_command_line(project: Path) -> None:
    """Without a file, folder or module there is nothing to do: status 2."""
    assert aos("lint", folder=project).status == 2


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    """The commands of docs/how-to/lint.md print what the page says they print."""
    page = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block, encoding="utf-8")
    shown = re.findall(r"^```console\n\$ aos (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [aos(*command.split(), folder=tmp_path).out for command, _ in shown] == [output for _, output in shown]


def test_the_page_lists_every_rule() -> None:
    """The page has a row for every rule with its cause, and for none that there is not."""
    rows = re.findall(r"^\| `([\w-]+)` \| (\w*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {code: rule.cause or "" for code, rule in RULES.items()}
