"""The runbook's key rotation, word for word, over goldens that a running worker wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aos_workflow import durable
from aos_workflow.golden import Golden
from aos_workflow.goldens.ledger import GoldenLedger
from aos_workflow.goldens.resign import Resigned, count, resign
from aos_workflow.goldens.verdict import Finding
from aos_workflow.goldens.verify import Verifier, json_files
from aos_workflow.signing import KeyRing, key_of
from tests.conformance import tasks
from tests.golden_cases import FOREIGN_SECRET, SECRET, Home, golden, opened_home, written
from tests.stack import AppEngine, Servers, Stack
from tests.worker_process import wait_until

SNIPPET = Path(__file__).with_name("runbook_rotate_key.sh")
GOLDEN_DIR = "/var/lib/aos/golden"
#: In a mount namespace of its own the folder is where the snippet looks for it, and nowhere else.
IN_PLACE = f"""
mount --make-rprivate / && mount -t tmpfs tmpfs /var/lib && mkdir -p {GOLDEN_DIR} && mount --bind "$0" {GOLDEN_DIR} &&
exec bash "$1"
"""


def rotate(folder: Path, scratch: Path) -> str:
    """Run the snippet over a folder; returns the new secret that it printed.

    Root runs the very text of the runbook. Without root the path in it is the only thing that is replaced.
    """
    may_mount = os.geteuid() == 0 and shutil.which("unshare")
    if may_mount and not subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        command = ["unshare", "-m", "sh", "-c", IN_PLACE, str(folder), str(SNIPPET)]
    else:
        script = scratch / "rotate.sh"
        script.write_text(SNIPPET.read_text().replace(GOLDEN_DIR, str(folder)))
        command = ["bash", str(script)]
    # the snippet says python3: this interpreter, wherever the tests run
    (scratch / "bin").mkdir(exist_ok=True)
    if not (scratch / "bin" / "python3").exists():
        (scratch / "bin" / "python3").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{scratch / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    said, *resigned = done.stdout.splitlines()
    assert sorted(resigned) == sorted(f"Resigned: {path.name}" for path in json_files(folder))
    return said.removeprefix("New HMAC Key: ")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with opened_home(tmp_path) as home:
        yield home


def test_every_golden_verifies_under_the_new_key(home: Home, tmp_path: Path) -> None:
    """After the snippet each file is VALID under the new key alone; that its key id is stale is said."""
    home.recorded(5)
    home.keys = KeyRing.of(rotate(home.folder, tmp_path))
    assert home.verdicts() == {}
    assert all(finding.key_id_is_stale for finding in home.findings())
    assert count(resign(home.folder, home.verifier), Resigned.RESIGNED) == 5
    assert not any(finding.key_id_is_stale for finding in home.findings())


def test_every_kind_of_damage_keeps_its_verdict_after_the_rotation(home: Home, tmp_path: Path) -> None:
    """Tampered, foreign, unsigned, deleted, planted, swapped: the snippet signs them all, and none is VALID."""
    good, tampered, unsigned, deleted, one, other, cut = home.recorded(7)
    tampered.write_text(tampered.read_text().replace('"score": 0.1', '"score": 0.2'))
    lines = unsigned.read_text().splitlines(keepends=True)
    unsigned.write_text("".join(line for line in lines if '"signature"' not in line))
    deleted.unlink()
    ours, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(ours)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    foreign = written(home.folder, golden(KeyRing.of(FOREIGN_SECRET)))
    expected = {
        tampered.name: "TAMPERED",
        unsigned.name: "UNSIGNED",
        deleted.name: "MISSING",
        one.name: "SWAPPED",
        other.name: "SWAPPED",
        cut.name: "TRUNCATED",
        foreign.name: "WRONG_KEY",
    }
    assert home.verdicts() == expected
    cut.write_bytes(whole)  # the snippet itself stops at a file that it cannot parse
    home.keys = KeyRing.of(rotate(home.folder, tmp_path))
    after = {
        **expected,
        unsigned.name: "TAMPERED",  # it has a signature now, at its end, where no writer of ours puts it
        foreign.name: "PLANTED",  # it has a right signature now, and nobody recorded it
    }
    del after[cut.name]
    assert home.verdicts() == after
    assert good.exists()


@pytest.mark.worker
@pytest.mark.timeout(240)
def test_a_rotation_beside_a_running_worker(servers: Servers, tmp_path: Path) -> None:
    """Goldens that a worker writes survive the rotation, and none is invalid to a ring of both keys meanwhile."""
    folder = tmp_path / "golden"
    folder.mkdir()
    folder.chmod(0o755)
    stack = Stack(servers)
    try:
        engine: AppEngine = stack.engine("tests.conformance.tasks", golden=1.0, golden_dir=folder, golden_secret=SECRET)
        stack.worker(
            "tests.conformance.tasks",
            env={"AOS_GOLDEN_DIR": str(folder), "AOS_GOLDEN": "always", "GOLDEN_HMAC_SECRET": SECRET},
        )
        flow = durable(tasks.start.s("x") | tasks.ident.s(), app=tasks.app)
        for handle in engine.enqueue_many(flow, [None] * 6):
            handle.wait(timeout_s=60)
        wait_until(lambda: len(json_files(folder)) == 6, what="six goldens are there", timeout_s=60)
        wait_until(lambda: not engine.store.golden_wanted(1), what="and entered", timeout_s=60)

        new = rotate(folder, tmp_path)
        ledger = GoldenLedger(engine.store)
        report = Verifier(KeyRing.of(new), ledger=ledger, home=folder).folder(folder)
        assert {finding.verdict.value for finding in report.findings} == {"VALID"}
        assert len(report.findings) == 6

        both = Verifier(KeyRing.of(new, [SECRET]), ledger=ledger, home=folder)
        handles = engine.enqueue_many(flow, [None] * 30)  # the worker goes on signing with the key it was started with
        while engine.store.golden_wanted(1) or not all(handle.status.is_terminal for handle in handles):
            newest = rotate_again(both, folder)
            assert [finding.reason for finding in newest if not finding.is_valid] == []
        wait_until(lambda: len(json_files(folder)) == 36, what="all goldens are there", timeout_s=60)
        resign(folder, both)
        assert Verifier(KeyRing.of(new), ledger=ledger, home=folder).folder(folder).is_valid
        assert {Golden.read(path).key_id for path in json_files(folder)} == {key_of(new).id}
    finally:
        stack.close()


def rotate_again(verifier: Verifier, folder: Path) -> list[Finding]:
    """Re-sign what is there and verify it, while the worker writes."""
    resign(folder, verifier)
    return list(verifier.folder(folder).findings)
