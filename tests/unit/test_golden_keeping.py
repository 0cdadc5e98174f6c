"""Re-signing, archiving, pruning and comparing goldens."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aos_workflow.atomic_files import only_one
from aos_workflow.canonical import digest, encode
from aos_workflow.clock import ManualClock
from aos_workflow.errors import GoldenKeyMissing, GoldenNotWritten
from aos_workflow.faults import InjectedFault, install
from aos_workflow.golden import Golden
from aos_workflow.goldens import resign as resigning
from aos_workflow.goldens.comparing import compare_goldens
from aos_workflow.goldens.keeping import archive, prune
from aos_workflow.goldens.resign import Resigned, resign
from aos_workflow.goldens.verify import DAY_S, Verifier
from aos_workflow.signing import KeyRing
from tests.golden_cases import (
    FOREIGN_SECRET,
    KEYS,
    MADE_BY,
    NEW_SECRET,
    RECORDED_AT,
    ROTATED,
    Home,
    golden,
    opened_home,
    recording,
    value_of,
    written,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def home(tmp_path: Path, clock: ManualClock) -> Iterator[Home]:
    with opened_home(tmp_path, clock=clock) as home:
        yield home


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    install("")


def outcomes(files: list[resigning.ResignedFile]) -> dict[str, str]:
    return {Path(file.finding.path).name: file.outcome.value for file in files}


# --- re-signing -----------------------------------------------------------------------------------------------


def test_goldens_come_under_the_newest_key(home: Home) -> None:
    """Each file is verified, signed anew, keeps its time and rights, and the ledger is told."""
    paths = home.recorded(3)
    for path in paths:
        os.utime(path, (RECORDED_AT, RECORDED_AT))
        path.chmod(0o600)
    home.keys = ROTATED
    assert set(outcomes(resign(home.folder, home.verifier)).values()) == {"resigned"}
    home.keys = KeyRing.of(NEW_SECRET)
    assert home.verdicts() == {}
    assert {finding.key_id for finding in home.findings()} == {home.keys.newest().id}
    assert {(path.stat().st_mtime, path.stat().st_mode & 0o777) for path in paths} == {(RECORDED_AT, 0o600)}
    assert home.ops() == ["add"] * 3 + ["resign"] * 3


def test_re_signing_again_does_nothing(home: Home) -> None:
    """Files under the newest key are left alone, to the inode."""
    (path,) = home.recorded()
    inode = path.stat().st_ino
    assert outcomes(resign(home.folder, home.verifier)) == {path.name: "kept"}
    assert path.stat().st_ino == inode
    assert home.ops() == ["add"]


def test_what_is_not_valid_is_refused_and_the_others_are_done(home: Home) -> None:
    """Tampered, truncated, foreign, unsigned, planted and swapped files stay byte by byte as they are."""
    good, tampered, cut = home.recorded(3)
    tampered.write_text(tampered.read_text().replace("0.1", "0.2"))
    cut.write_bytes(cut.read_bytes()[:300])
    others = [
        written(home.folder, golden(KeyRing.of(FOREIGN_SECRET))),
        written(home.folder, golden()),
        written(home.folder, golden(), name="w-1.json"),
        home.folder / "stray.json",
    ]
    others[-1].write_text("[1, 2]")
    before = {path: path.read_bytes() for path in (tampered, cut, *others)}
    home.keys = ROTATED
    found = outcomes(resign(home.folder, home.verifier))
    assert found.pop(good.name) == "resigned"
    assert set(found.values()) == {"refused"}
    assert {path: path.read_bytes() for path in before} == before
    assert home.ops() == ["add"] * 3 + ["resign"]


def test_a_stale_key_id_is_put_right(home: Home) -> None:
    """After the runbook's snippet the file names the old key; re-signing names the one that signed."""
    (path,) = home.recorded()
    home.keys = ROTATED
    data = json.loads(path.read_text())
    data["signature"] = ROTATED.sign(data)
    path.write_text(json.dumps(data, indent=2))
    assert outcomes(resign(home.folder, home.verifier)) == {path.name: "resigned"}
    assert Golden.read(path).key_id == ROTATED.newest().id


def test_a_crash_before_the_ledger_is_caught_up(home: Home) -> None:
    """Files that a crashed process re-signed get their ledger entry from the next one."""
    home.recorded(2)
    home.keys = ROTATED
    install("golden_placed:raise@2")
    with pytest.raises(InjectedFault):
        resign(home.folder, home.verifier)
    install("")
    assert sorted(outcomes(resign(home.folder, home.verifier)).values()) == ["kept", "kept"]
    assert home.ops() == ["add", "add", "resign", "resign"]
    assert home.verdicts() == {}


def test_a_folder_without_a_database_is_re_signed_too(tmp_path: Path) -> None:
    """An extracted archive comes under the new key by the same command."""
    path = written(tmp_path, golden())
    assert resigning.count(resign(tmp_path, Verifier(ROTATED)), Resigned.RESIGNED) == 1
    assert Verifier(KeyRing.of(NEW_SECRET)).file(path).is_valid


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link is not exchanged for a file."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    target = written(elsewhere, golden())
    (folder / target.name).symlink_to(target)
    before = target.read_bytes()
    assert set(outcomes(resign(folder, Verifier(ROTATED))).values()) == {"refused"}
    assert target.read_bytes() == before


def test_only_one_works_on_a_folder(home: Home) -> None:
    """A second one is told so, retryably, and touches nothing; no lock file is left."""
    home.recorded()
    names = os.listdir(home.folder)
    with only_one(home.folder):
        for work in (
            lambda: resign(home.folder, home.verifier),
            lambda: prune(home.folder, home.verifier, older_than_days=0),
            lambda: archive(home.folder, home.folder / "a", home.verifier),
        ):
            with pytest.raises(GoldenNotWritten, match="another process"):
                work()
    assert os.listdir(home.folder) == names


def test_re_signing_needs_a_key_to_sign(home: Home) -> None:
    """Keys that only verify are not enough."""
    home.recorded()
    with pytest.raises(GoldenKeyMissing):
        resign(home.folder, Verifier(KeyRing.of("", ["a"])))


# --- archives ---------------------------------------------------------------------------------------------------


def test_an_archive_is_verified_from_its_copy(home: Home, tmp_path: Path, clock: ManualClock) -> None:
    """Extracted anywhere, each file of the archive is valid; the ledger has the archive's SHA-256."""
    paths = home.recorded(3)
    done = archive(home.folder, tmp_path / "archives", home.verifier, clock=clock)
    assert done.path is not None
    assert done.path.name.startswith("golden_archive_20")
    assert (set(done.names), done.removed, done.refused) == ({path.name for path in paths}, (), ())
    with tarfile.open(done.path) as packed:
        assert sorted(packed.getnames()) == sorted(f"./{path.name}" for path in paths)
        packed.extractall(tmp_path / "copy", filter="data")
    report = Verifier(home.keys).folder(tmp_path / "copy")
    assert report.is_valid
    assert len(report.findings) == 3
    assert [(entry.name, entry.content_sha256) for entry in home.ledger.entries()][-1] == (done.path.name, done.sha256)
    assert home.verdicts() == {}


def test_archived_files_may_be_removed(home: Home, tmp_path: Path) -> None:
    """Removed files are pruned in the ledger before they go, and missing from nowhere."""
    home.recorded(2)
    done = archive(home.folder, tmp_path / "archives", home.verifier, remove=True)
    assert len(done.removed) == 2
    assert home.names() == []
    assert home.ops() == ["add", "add", "archive", "prune", "prune"]
    assert home.verdicts() == {}


def test_evidence_is_not_archived_away(home: Home, tmp_path: Path) -> None:
    """A tampered golden stays in its folder and is reported."""
    good, bad = home.recorded(2)
    bad.write_text(bad.read_text().replace("0.1", "0.2"))
    done = archive(home.folder, tmp_path / "archives", home.verifier, remove=True)
    assert done.names == (good.name,)
    assert [Path(finding.path).name for finding in done.refused] == [bad.name]
    assert home.names() == [bad.name]


def test_two_archives_of_one_second_are_two(home: Home, tmp_path: Path, clock: ManualClock) -> None:
    """An archive never overwrites another one; nothing to archive makes none."""
    assert archive(home.folder.parent, tmp_path / "archives", Verifier(KEYS), clock=clock).path is None
    home.recorded()
    made = {archive(home.folder, tmp_path / "archives", home.verifier, clock=clock).path for _ in range(3)}
    assert len(made) == 3
    assert len(list((tmp_path / "archives").iterdir())) == 3


def test_an_archive_that_cannot_be_written_costs_nothing(home: Home, tmp_path: Path) -> None:
    """Where there is no room for an archive, nothing is removed."""
    home.recorded()
    (tmp_path / "archives").write_text("in the way")
    with pytest.raises(GoldenNotWritten, match="nothing was removed"):
        archive(home.folder, tmp_path / "archives", home.verifier, remove=True)
    assert len(home.names()) == 1
    assert home.verdicts() == {}


# --- pruning ----------------------------------------------------------------------------------------------------


def test_pruning_goes_by_the_recorded_time(home: Home, clock: ManualClock) -> None:
    """Old goldens go although re-signing or copying has renewed their files, young ones stay however old those are."""
    (old,) = home.recorded()
    clock.move(10 * DAY_S)
    (young,) = home.recorded()
    os.utime(young, (0, 0))
    trial = prune(home.folder, home.verifier, older_than_days=7, dry_run=True)
    assert (trial.names, trial.kept, len(home.names())) == ((old.name,), 1, 2)
    assert prune(home.folder, home.verifier, older_than_days=7).names == (old.name,)
    assert home.names() == [young.name]
    assert home.ops() == ["add", "add", "prune"]
    assert home.verdicts() == {}


def test_pruning_goes_on_where_it_was_killed(home: Home) -> None:
    """A crash between ledger and file leaves a file too many; the next pruning deletes it, without a second entry."""
    home.recorded(3)
    install("golden_entered:raise@2")
    with pytest.raises(InjectedFault):
        prune(home.folder, home.verifier, older_than_days=-1)
    install("")
    assert len(home.names()) == 2
    assert {finding.note for finding in home.findings()} == {"pruned according to the ledger, and still here"}
    assert home.verdicts() == {}
    assert len(prune(home.folder, home.verifier, older_than_days=-1).names) == 2
    assert home.names() == []
    assert home.ops() == ["add"] * 3 + ["prune"] * 3


def test_a_pruned_run_can_be_recorded_again(home: Home) -> None:
    """On demand a golden comes back, and is expected from then on."""
    run_id = home.run()
    home.recorder.record(run_id)
    prune(home.folder, home.verifier, older_than_days=-1)
    path = home.recorder.record(run_id)
    assert home.verdicts() == {}
    path.unlink()
    assert home.verdicts() == {path.name: "MISSING"}


def test_what_is_not_valid_is_not_pruned(home: Home) -> None:
    """A recorded time that nobody vouches for deletes nothing."""
    (path,) = home.recorded()
    path.write_text(path.read_text().replace("0.1", "0.2"))
    done = prune(home.folder, home.verifier, older_than_days=-1)
    assert (done.names, len(done.refused), home.names()) == ((), 1, [path.name])


# --- comparing --------------------------------------------------------------------------------------------------


def test_two_runs_of_one_seed_are_equal() -> None:
    """Run id, time and key make no difference, circumstances are listed apart."""
    left = golden()
    right = Golden.of(recording(), recorded_at=9.0, keys=ROTATED, made_by={**MADE_BY, "python": "4"})
    comparison = compare_goldens(left, right)
    assert comparison.is_equal
    assert [(one.path, one.left, one.right) for one in comparison.circumstances] == [("/made_by/python", "3", "4")]


def test_differences_have_an_address_and_a_path() -> None:
    """Each differing field is named; those that are volatile do not count."""
    original = recording()
    value = {**value_of("2.t"), "score": 0.2, "ms": 99, "items": [1, None, False]}
    step = replace(original.steps[1], output=encode(value), digest=digest(encode(value)))
    other = replace(original, seed=8, steps=(original.steps[0], step))
    left, right = (Golden.of(one, recorded_at=1.0, keys=KEYS, made_by=MADE_BY) for one in (original, other))
    comparison = compare_goldens(left, right)
    assert not comparison.is_equal
    assert [(one.address, one.path) for one in comparison.differences] == [
        ("", "/seed"),
        ("2.t", "/items/2"),
        ("2.t", "/items/3"),
        ("2.t", "/score"),
    ]
    assert [(one.address, one.path, one.left, one.right) for one in comparison.ignored] == [("2.t", "/ms", 12, 99)]


def test_a_step_that_only_one_has_is_a_difference() -> None:
    """Longer runs differ from shorter ones in their plans and in each further step."""
    comparison = compare_goldens(golden(size=2), golden(size=3))
    assert "3.t" in {one.address for one in comparison.differences}
    assert any(one.path.startswith("/plan/steps") for one in comparison.differences)
