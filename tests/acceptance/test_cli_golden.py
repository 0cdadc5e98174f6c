"""``aos golden``: what it prints, what it changes, and how it exits."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aos_workflow import assembly
from aos_workflow.canonical import encode
from aos_workflow.cli import aos
from aos_workflow.schema import REVISION, VERSION_TABLE
from aos_workflow.signing import KeyRing, key_of
from tests.golden_cases import FOREIGN_SECRET, NEW_SECRET, SECRET, Home, golden, opened_home, written

Aos = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Goldens with a database as ``aos db upgrade`` leaves it."""
    with opened_home(tmp_path) as home:
        with home.bench.engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num text)")
            connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('{REVISION}')")
        yield home


@pytest.fixture
def command(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aos:
    """Run ``aos golden``; keywords are environment variables (an empty one is not set)."""
    monkeypatch.setattr(assembly, "_runtimes", {})
    environment = {
        "AOS_HOME": str(tmp_path),
        "AOS_DATABASE_URL": home.bench.engine.url.render_as_string(),
        "GOLDEN_HMAC_SECRET": SECRET,
        "GOLDEN_HMAC_OLD_SECRETS": "",
        "AOS_APP": "",
        "AOS_GOLDEN_DIR": "",
        "AOS_GOLDEN_KEYS_FILE": "",
    }

    def run(*words: object, **variables: str) -> Result:
        return CliRunner().invoke(aos, ["golden", *map(str, words)], env={**environment, **variables})

    return run


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def test_verify_says_that_all_is_well(home: Home, command: Aos) -> None:
    """Without a path the configured folder is verified; status 0, one line each and the count."""
    paths = home.recorded(2)
    result = command("verify")
    assert result.exit_code == 0, result.output
    assert all(path.name in result.stdout for path in paths)
    assert result.stdout.endswith("2 VALID\n")


def test_verify_tells_verdicts_apart(home: Home, command: Aos) -> None:
    """Status 1, a verdict with its reason for each file, and once for each kind what to do."""
    good, tampered, deleted = home.recorded(3)
    tampered.write_text(tampered.read_text().replace('"score": 0.1', '"score": 0.2'))
    deleted.unlink()
    written(home.folder, golden(KeyRing.of(FOREIGN_SECRET)))
    result = command("verify")
    assert result.exit_code == 1
    for said in ("VALID", "TAMPERED", "output of step 1.t", "MISSING", "WRONG_KEY", key_of(FOREIGN_SECRET).id):
        assert said in result.stdout
    found = document(command("verify", "--json"))
    assert found["valid"] is False
    assert found["counts"] == {"VALID": 1, "TAMPERED": 1, "WRONG_KEY": 1, "MISSING": 1}
    by_name = {Path(one["path"]).name: one for one in found["results"]}
    assert by_name[good.name]["signed_by"] == key_of(SECRET).id
    assert by_name[tampered.name]["parts"] == ["output of step 1.t", "output of step 2.t"]


def test_single_files_are_verified(home: Home, command: Aos) -> None:
    """Files given by name are looked at alone, with the ledger where it is about them: nothing else is missing."""
    good, gone = home.recorded(2)
    gone.unlink()
    assert command("verify", good).exit_code == 0
    planted = written(home.folder, golden())
    result = command("verify", good, planted, "--json")
    assert result.exit_code == 1
    assert [one["verdict"] for one in document(result)["results"]] == ["VALID", "PLANTED"]


def test_a_copy_is_verified_without_the_database(home: Home, command: Aos, tmp_path: Path) -> None:
    """Another folder needs keys only, no database."""
    (path, _) = home.recorded(2)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / path.name).write_bytes(path.read_bytes())
    result = command("verify", copy, AOS_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert result.exit_code == 0, result.output


def test_a_folder_that_is_gone_is_what_the_ledger_knows_of_it(home: Home, command: Aos) -> None:
    """With the configured folder deleted, everything that was recorded there is MISSING."""
    (path,) = home.recorded(1)
    path.unlink()
    home.folder.rmdir()
    result = command("verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["counts"] == {"MISSING": 1}


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["verify", "nowhere/*.json"], {}, "there is no golden 'nowhere/*.json'"),
        (["verify"], {"AOS_DATABASE_URL": ""}, "there is no golden"),
        (["verify", "."], {"GOLDEN_HMAC_SECRET": ""}, "set GOLDEN_HMAC_SECRET"),
        (["resign"], {}, "there is no folder"),
        (["record", "0192"], {}, "no run has an id like '0192'"),
        (["verify"], {"AOS_GOLDEN_KEYS_FILE": "/nonexistent"}, "AOS_GOLDEN_KEYS_FILE /nonexistent"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], variables: dict[str, str], said: str, command: Aos) -> None:
    """Status 1, and one line on stderr that says what to do."""
    result = command(*words, **variables)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_folder_without_goldens_is_an_error(command: Aos, tmp_path: Path) -> None:
    """Verifying nothing must not look like success."""
    (tmp_path / "empty").mkdir()
    result = command("verify", tmp_path / "empty")
    assert result.exit_code == 1
    assert "there is no *.json" in result.stderr


def test_show(home: Home, command: Aos) -> None:
    """A golden's facts, verdict and steps; with --json the whole document."""
    (path,) = home.recorded()
    shown = command("show", path)
    assert shown.exit_code == 0
    for said in (path.stem[2:], "VALID", "1.t", "2.t", "hash"):
        assert said in shown.stdout
    found = document(command("show", path, "--json"))
    assert found["finding"]["verdict"] == "VALID"
    assert found["golden"] == json.loads(path.read_text())
    path.write_text(path.read_text().replace('"score": 0.1', '"score": 0.2'))
    assert "TAMPERED" in command("show", path).stdout


def test_diff(home: Home, command: Aos) -> None:
    """Status 0 for the same answer from two runs; 1 with every differing field for another one."""
    one, same, other = home.recorder, home.recorder, home.recorder
    left, right = one.record(home.run()), same.record(home.run())
    third = other.record(home.run(seed=8, value={"of": "x", "score": 0.1}))
    equal = command("diff", left, right)
    assert (equal.exit_code, equal.stdout.splitlines()[0]) == (0, "what was computed is the same")
    different = command("diff", left, third)
    assert different.exit_code == 1
    assert "/seed" in different.stdout
    assert "1.t/of" in different.stdout
    found = document(command("diff", left, third, "--json"))
    assert {"address": "", "path": "/seed", "left": 7, "right": 8} in found["differences"]
    assert encode(found["equal"]) == "false"


def test_resign(home: Home, command: Aos) -> None:
    """Status 0 when all came under the new key; 1 when one was refused, which is listed and left alone."""
    (path,) = home.recorded()
    rotated = {"GOLDEN_HMAC_SECRET": NEW_SECRET, "GOLDEN_HMAC_OLD_SECRETS": SECRET}
    first, second = command("resign", **rotated), command("resign", **rotated)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert f"1 re-signed under key {key_of(NEW_SECRET).id}, 0 were already, 0 refused" in first.stdout
    assert "0 re-signed" in second.stdout
    assert command("verify", GOLDEN_HMAC_SECRET=NEW_SECRET).exit_code == 0
    path.write_text(path.read_text().replace('"score": 0.1', '"score": 0.2'))
    refused = command("resign", "--json", **rotated)
    assert refused.exit_code == 1
    assert document(refused)["counts"] == {"resigned": 0, "kept": 0, "refused": 1, "gone": 0}
    assert SECRET not in refused.output + first.output
    assert NEW_SECRET not in refused.output + first.output


def test_archive_and_prune(home: Home, command: Aos, tmp_path: Path) -> None:
    """An archive lands in $AOS_HOME/archives and its copy verifies; what it holds may go."""
    home.recorded(2)
    made = document(command("archive", "--json"))
    path = Path(made["archive"])
    assert (path.parent, len(made["files"]), made["removed"]) == (tmp_path / "archives", 2, [])
    with tarfile.open(path) as packed:
        packed.extractall(tmp_path / "copy", filter="data")
    assert command("verify", tmp_path / "copy").exit_code == 0
    trial = command("prune", "--older-than-days", "0", "--dry-run", "--json")
    assert (trial.exit_code, document(trial)["dry_run"], len(home.names())) == (0, True, 2)
    assert "0 deleted, 2 are younger than 7 days" in command("prune").stdout
    gone = command("archive", "--remove")
    assert gone.exit_code == 0
    assert "2 of them were removed" in gone.stdout
    assert home.names() == []
    assert command("verify").exit_code == 0


def test_record_on_demand(home: Home, command: Aos) -> None:
    """A run that no policy wanted to record is recorded by its id, or the end of it."""
    run_id = home.run(golden=False)
    result = command("record", run_id[-12:])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{home.folder / f'w-{run_id}.json'}\n"
    assert document(command("record", run_id, "--json"))["run_id"] == run_id
    assert command("verify").exit_code == 0
