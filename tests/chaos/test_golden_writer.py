"""Writers of goldens are killed and the disk is full: no reader ever sees a part of a golden."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aos_workflow.errors import GoldenNotWritten
from aos_workflow.golden import Golden, golden_name
from aos_workflow.goldens.resign import resign
from aos_workflow.goldens.verify import Verifier, json_files, judge
from aos_workflow.signing import KeyRing
from tests.chaos.golden_writer import Writer, moments
from tests.conformance.store_cases import line
from tests.golden_cases import KEYS, NEW_SECRET, ROTATED, SECRET, Home, golden, opened_home
from tests.worker_process import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

KILLS, SEED = 100, 20261123
#: Named points at which every fourth kill happens; the others happen at a random moment.
POINTS = ("golden_half", "golden_whole", "golden_placed")
#: A golden of this many bytes takes several writes and some milliseconds.
BULK = "x" * 150_000
KILLED = -9


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with opened_home(tmp_path) as home:
        yield home


@pytest.fixture
def writer(home: Home) -> Iterator[Writer]:
    url = home.bench.engine.url.render_as_string(hide_password=False)
    writer = Writer(url=url, folder=str(home.folder), newest=SECRET)
    yield writer
    writer.close()


class Reader:
    """Looks at the folder all the time, as a shadow run, a verifier or the runbook's snippet does."""

    def __init__(self, folder: Path, keys: KeyRing) -> None:
        self._folder, self._keys = folder, keys
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: set[tuple[str, int]] = set()
        self.wrong: list[str] = []
        self.looks = 0

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.looks += 1
            for path in json_files(self._folder):
                self._look_at(path)

    def _look_at(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                mark = (path.name, os.fstat(file.fileno()).st_ino)
                if mark in self.seen:
                    return
                data = file.read()
        except FileNotFoundError:
            return  # pruned
        self.seen.add(mark)
        finding = judge(data, str(path), self._keys, name=path.name)
        if not finding.is_valid:
            self.wrong.append(f"{path.name}: {finding.verdict} {finding.reason} ({len(data)} bytes)")


def test_the_reader_notices_a_torn_file(tmp_path: Path) -> None:
    """What proves the absence of torn files would see one that is there for a moment only."""
    one = golden()
    with Reader(tmp_path, KEYS) as reader:
        (tmp_path / one.name).write_text(one.text[:1000])
        wait_until(lambda: bool(reader.wrong), what="the reader has seen it")
    assert "TRUNCATED" in reader.wrong[0]


def test_a_writer_killed_a_hundred_times_leaves_no_partial_golden(home: Home, writer: Writer) -> None:
    """Killed at random moments and at named points in the middle of writing, it never shows a reader half a file."""
    runs = [home.run(plan=line(1), value=BULK) for _ in range(160)]
    home.folder.mkdir()
    ended: Counter[int] = Counter()
    with Reader(home.folder, KEYS) as reader:
        for number, delay_s in enumerate(moments(SEED, KILLS, 0.08)):
            if number % 4 == 0:
                point = POINTS[number // 4 % len(POINTS)]
                status = writer.run("record", faults=f"{point}:kill9")
                assert status == KILLED, point
            else:
                status = writer.run("record", kill_after_s=delay_s)
            ended[status] += 1
            if not home.bench.store.golden_wanted(1):
                runs += [home.run(plan=line(1), value=BULK) for _ in range(40)]
        leftovers = [path for path in home.folder.iterdir() if path.suffix == ".tmp"]
        assert writer.run("record") == 0
    assert reader.wrong == []
    assert reader.looks > KILLS
    assert ended[KILLED] >= KILLS * 0.9, ended
    assert len(leftovers) >= KILLS // 4 * 2 // 3, "no kill hit a write"
    assert sorted(home.names()) == sorted(golden_name("w", run_id) for run_id in runs)
    assert home.verdicts() == {}
    assert Counter(home.ops()) == {"add": len(runs)}


def test_re_signing_killed_at_every_point_is_resumed(home: Home, writer: Writer) -> None:
    """Killed before, in and after each file's exchange, every file stays valid, and the next one finishes the rest."""
    home.recorded(4)
    keys = itertools.cycle([(NEW_SECRET, [SECRET]), (SECRET, [NEW_SECRET])])
    both = KeyRing.of(NEW_SECRET, [SECRET])
    with Reader(home.folder, both) as reader:
        for point, nth in itertools.product(POINTS, range(1, 5)):
            newest, older = next(keys)
            home.keys = KeyRing.of(newest, older)
            assert writer.run("resign", newest=newest, older=older, faults=f"{point}:kill9@{nth}") == KILLED
            assert home.verdicts() == {}
            assert writer.run("resign", newest=newest, older=older) == 0
            home.keys = KeyRing.of(newest)
            assert home.verdicts() == {}
            assert {Golden.read(path).key_id for path in json_files(home.folder)} == {home.keys.newest().id}
            last = {entry.name: entry.key_id for entry in home.ledger.entries()}
            assert set(last.values()) == {home.keys.newest().id}
    assert reader.wrong == []


def test_pruning_killed_at_every_file_loses_nothing_it_should_keep(home: Home, writer: Writer) -> None:
    """Killed before each deletion, what is left is valid and expected; the next pruning finishes."""
    for nth in range(1, 4):
        home.recorded(3)
        assert writer.run("prune", faults=f"golden_entered:kill9@{nth}") == KILLED
        assert len(home.names()) == 4 - nth
        assert home.verdicts() == {}
        assert writer.run("prune") == 0
        assert home.names() == []
        assert home.verdicts() == {}


@pytest.mark.parametrize("point", [*POINTS, "golden_entered:kill9@2"])
def test_archiving_killed_at_any_point_loses_no_golden(home: Home, writer: Writer, tmp_path: Path, point: str) -> None:
    """Whenever it dies, each golden is valid in its folder or in a whole archive."""
    names = {path.name for path in home.recorded(4)}
    to = tmp_path / "archives"
    assert writer.run("archive", to=str(to), faults=point if ":" in point else f"{point}:kill9") == KILLED
    assert home.verdicts() == {}
    archived = set()
    for path in to.glob("*.tgz"):
        with tarfile.open(path) as packed:
            for member in packed:
                content = packed.extractfile(member)
                assert content is not None
                name = member.name.removeprefix("./")
                assert judge(content.read(), name, KEYS, name=name).is_valid
                archived.add(name)
    assert archived | set(home.names()) == names
    assert writer.run("archive", to=str(to)) == 0
    assert home.names() == []
    assert home.verdicts() == {}


# --- a full disk --------------------------------------------------------------------------------------------------


class LimitedFiles:
    """No file of this process may grow beyond 16 KiB: write() fails in the middle, as it does on a full disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, self._limits[1]))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def close(self) -> None:
        self.make_room()


class SmallDisk:
    """A disk of 512 KiB: when it is full, ENOSPC is for real. Takes root."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")

    def fill(self) -> None:
        """All but 16 KiB."""
        free = os.statvfs(self._folder).f_bavail * os.statvfs(self._folder).f_frsize
        (self._folder / "ballast").write_bytes(b"x" * (free - 16_384))

    def make_room(self) -> None:
        (self._folder / "ballast").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self._folder)], check=True)


Disk = LimitedFiles | SmallDisk


@pytest.fixture(params=[LimitedFiles, SmallDisk])
def disk(request: pytest.FixtureRequest, home: Home) -> Iterator[Disk]:
    """A disk below the home's folder that can be full."""
    disk = request.param(home.folder)
    yield disk
    disk.close()


def test_a_full_disk_leaves_nothing_partial(home: Home, disk: Disk) -> None:
    """Recording fails retryably and leaves no file, not even a temporary one; with room again it succeeds."""
    run_id = home.run(plan=line(1), value=BULK)
    disk.fill()
    before = sorted(home.folder.iterdir())
    for _ in range(3):
        with pytest.raises(GoldenNotWritten) as refused:
            home.recorder.record(run_id)
        assert refused.value.retryable
        assert sorted(home.folder.iterdir()) == before
    disk.make_room()
    assert home.ops() == []
    assert Verifier(KEYS).file(home.recorder.record(run_id)).is_valid
    assert home.bench.store.golden_wanted(1) == []


def test_a_full_disk_costs_re_signing_no_golden(home: Home, disk: Disk) -> None:
    """Where the runbook's snippet truncates a good golden, the file stays as it was, under its old key."""
    path = home.recorder.record(home.run(plan=line(1), value=BULK))
    before = path.read_bytes()
    home.keys = ROTATED
    disk.fill()
    with pytest.raises(GoldenNotWritten, match="it is as it was"):
        resign(home.folder, home.verifier)
    assert path.read_bytes() == before
    assert home.verifier.file(path).is_valid
    disk.make_room()
    assert [file.outcome.value for file in resign(home.folder, home.verifier)] == ["resigned"]
    assert home.verdicts() == {}
