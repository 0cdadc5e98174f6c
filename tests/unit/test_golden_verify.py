"""Verdicts: each way a golden can be wrong has its own, and no wrong one is ever VALID."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from aos_workflow.golden import Golden, content_sha256, golden_name
from aos_workflow.goldens.strict import DEPTH_LIMIT, Flaw, document_of, is_cut_short
from aos_workflow.goldens.verdict import Finding, Verdict
from aos_workflow.goldens.verify import Verifier, judge
from aos_workflow.signing import KeyRing, key_of
from tests.golden_cases import (
    FOREIGN_SECRET,
    KEYS,
    NEW_SECRET,
    RECORDED_AT,
    ROTATED,
    SECRET,
    Home,
    forged,
    golden,
    opened_home,
    written,
)

ONE = golden(run_id="0192b000-0000-7000-8000-000000000001")
DATA = ONE.text.encode()


def judged(data: bytes | str, *, keys: KeyRing = KEYS, name: str | None = ONE.name) -> Finding:
    return judge(data.encode() if isinstance(data, str) else data, "x.json", keys, name=name)


def changed(change: Callable[[dict[str, Any]], None], *, resealed: bool = False) -> str:
    """The golden's text after a change that left its signature; ``resealed``: with a content hash that fits."""
    document = json.loads(ONE.text)
    change(document)
    if resealed:
        document["content_sha256"] = content_sha256(document)
    return json.dumps(document, indent=2)


def laundered(text: str, secret: str) -> str:
    """What the runbook's snippet makes of a file."""
    data = json.loads(text)
    data["signature"] = KeyRing.of(secret).sign(data)
    return json.dumps(data, indent=2)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with opened_home(tmp_path) as home:
        yield home


# --- one file by itself ---------------------------------------------------------------------------------------


def test_an_untouched_golden_is_valid() -> None:
    """The verdict names run, workflow, key and time."""
    finding = judged(DATA)
    assert finding.verdict is Verdict.VALID
    assert (finding.run_id, finding.workflow) == (ONE.run_id, "triage")
    assert (finding.key_id, finding.signed_by, finding.recorded_at) == (*[KEYS.newest().id] * 2, RECORDED_AT)
    assert (finding.reason, finding.note, finding.key_id_is_stale) == ("", "", False)


def test_every_byte_counts() -> None:
    """A flipped bit anywhere in the file is never VALID."""
    survivors = []
    for position in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[position] ^= 1
        if judged(bytes(damaged)).is_valid:
            survivors.append(position)
    assert survivors == []


@given(st.integers(0, len(DATA) - 1), st.integers(0, 255))
def test_any_single_byte_changed_is_never_valid(position: int, byte: int) -> None:
    """Whatever one byte is changed to."""
    damaged = DATA[:position] + bytes([byte]) + DATA[position + 1 :]
    assert judged(damaged).is_valid == (damaged == DATA)


@given(st.integers(0, len(DATA)), st.binary(min_size=1, max_size=4))
def test_any_insertion_is_never_valid(position: int, inserted: bytes) -> None:
    """Nor whatever is put in between, white space included."""
    assert not judged(DATA[:position] + inserted + DATA[position:]).is_valid


def test_every_beginning_of_a_golden_is_truncated() -> None:
    """Cut off anywhere, a golden is TRUNCATED and not something else."""
    verdicts = {judged(DATA[:length]).verdict for length in range(len(DATA))}
    assert verdicts == {Verdict.TRUNCATED}


@pytest.mark.parametrize("text", ["{}", "[1]", "}", "{]", '{"a": tru!', '{"a" "b"', "nonsense", '{"a": 1}}'])
def test_what_is_complete_or_broken_is_not_cut_short(text: str) -> None:
    """Only text that some ending would complete counts as truncated."""
    assert not is_cut_short(text)


CHANGES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("output of step 2.t", lambda d: d["steps"][1]["output"].update(score=0.2)),
    ("digest of step 1.t", lambda d: d["steps"][0].update(digest="0" * 64)),
    ("stable_digest or volatile of step 1.t", lambda d: d["steps"][0].update(volatile=[])),
    ("inputs", lambda d: d["inputs"].update(x=2)),
    ("plan", lambda d: d["plan"].update(outgoing=None)),
    ("workflow_hash (or workflow, seed, addresses)", lambda d: d.update(seed=8)),
    ("workflow_hash (or workflow, seed, addresses)", lambda d: d.update(workflow_hash="0" * 64)),
    ("workflow_hash (or workflow, seed, addresses)", lambda d: d["steps"].reverse() or d["steps"].pop()),
    ("something without a digest of its own", lambda d: d.update(recorded_at=1.0)),
    ("something without a digest of its own", lambda d: d["steps"][0]["effects"]["effects"].update(price=4)),
    ("something without a digest of its own", lambda d: d["code"]["t"].update(line=4)),
    ("something without a digest of its own", lambda d: d.update(extra=1)),
    ("step 1", lambda d: d["steps"].__setitem__(0, None)),
    ("workflow_hash", lambda d: d.pop("steps")),
    ("inputs", lambda d: d.pop("inputs_digest")),
]


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_a_change_is_tampering_and_its_part_is_named(part: str, change: Callable[[dict[str, Any]], None]) -> None:
    """The recomputed digests tell which step, input or plan it was; what has no digest is said to have none."""
    finding = judged(changed(change))
    assert finding.verdict is Verdict.TAMPERED
    assert len(finding.parts) == 1
    assert finding.parts[0].startswith(part), finding.parts
    assert part in finding.reason
    assert finding.fix


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_re_signing_launders_nothing(part: str, change: Callable[[dict[str, Any]], None]) -> None:
    """The runbook's snippet signs whatever it finds; a changed golden stays TAMPERED all the same."""
    for keys in (KEYS, KeyRing.of(NEW_SECRET, [FOREIGN_SECRET])):
        assert judged(laundered(changed(change), NEW_SECRET), keys=keys).verdict is Verdict.TAMPERED
    assert judged(laundered(changed(change), FOREIGN_SECRET)).verdict is Verdict.TAMPERED


@pytest.mark.parametrize(("part", "change"), [one for one in CHANGES if "something" not in one[0]][:2])
def test_a_resealed_change_contradicts_itself(part: str, change: Callable[[dict[str, Any]], None]) -> None:
    """With the key and a new content hash, an output that does not fit its digest still shows."""
    text = changed(change, resealed=True)
    finding = judged(laundered(text, NEW_SECRET), keys=KeyRing.of(NEW_SECRET))
    assert finding.verdict is Verdict.TAMPERED
    assert "contradict" in finding.reason


def test_a_foreign_key_is_told_from_tampering() -> None:
    """Intact, but of a key that is not in the ring: the verdict names the key it says, the ring's, and the fix."""
    foreign = golden(KeyRing.of(FOREIGN_SECRET))
    finding = judged(foreign.text, name=None)
    assert finding.verdict is Verdict.WRONG_KEY
    assert key_of(FOREIGN_SECRET).id in finding.reason
    assert KEYS.newest().id in finding.reason
    assert "GOLDEN_HMAC_OLD_SECRETS" in finding.fix
    assert judged(foreign.text, keys=KeyRing.of(), name=None).verdict is Verdict.WRONG_KEY


def test_a_changed_signature_is_a_wrong_key() -> None:
    """A signature that fits nothing, over content that is intact, under our key id: it is said which two it may be."""
    finding = judged(changed(lambda d: d.update(signature="0" * 64)))
    assert finding.verdict is Verdict.WRONG_KEY
    assert "the signature was changed" in finding.reason


def test_an_older_key_of_the_ring_is_valid() -> None:
    """After a rotation, goldens under the old key are as valid as before."""
    assert judged(DATA, keys=ROTATED).is_valid


def test_the_snippets_re_signing_is_valid_with_a_stale_id() -> None:
    """A file that the runbook's snippet re-signed under a key of the ring is VALID, and the stale id is reported."""
    finding = judged(laundered(ONE.text, NEW_SECRET), keys=ROTATED)
    assert finding.is_valid
    assert finding.key_id_is_stale
    assert (finding.key_id, finding.signed_by) == (KEYS.newest().id, ROTATED.newest().id)
    assert "left the old key id" in finding.note


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "a JSON list"),
        ("7", "a JSON number"),
        ("null", "a JSON null"),
        ('{"hello": 1}', "no golden: it has no signature"),
        ("hello", "it is no golden"),
        (changed(lambda d: d.pop("signature")), "its signature is gone"),
    ],
)
def test_what_has_no_signature_is_unsigned(text: str, reason: str) -> None:
    """Stray JSON and goldens without a signature are told apart from tampered ones, with the reason."""
    finding = judged(text)
    assert finding.verdict is Verdict.UNSIGNED
    assert reason in finding.reason


def _twice(name: str) -> str:
    return ONE.text.replace(f'  "{name}":', f'  "{name}": 1,\n  "{name}":', 1)


@pytest.mark.parametrize(
    "text",
    [
        ONE.text + "\n",
        " " + ONE.text,
        json.dumps(ONE.document),
        json.dumps(ONE.document, indent=2, ensure_ascii=False),
        json.dumps(dict(reversed(list(ONE.document.items()))), indent=2),
        _twice("seed"),
        ONE.text.replace('"seed": 7', '"seed": 7.0'),
        ONE.text.replace('"seed": 7', '"seed": NaN'),
        ONE.text.replace('"seed": 7', '"seed": 1e999'),
        ONE.text.replace('"seed": 7', '"seed": "\\ud800"'),
        ONE.text.replace('"seed": 7', '"seed": ' + "9" * 5000),
        ONE.text.replace('"seed": 7', '"seed": ' + "[" * 300 + "]" * 300),
        ONE.text.replace('"seed": 7', '"seed": ' + "[" * 100_000 + "]" * 100_000),
    ],
    ids=range(13),
)
def test_only_the_writers_own_text_is_believed(text: str) -> None:
    """White space, order, escapes, duplicate keys, NaN, depth bombs: what no writer of ours writes is tampering."""
    assert judged(text).verdict is Verdict.TAMPERED


def test_depth_and_size_have_limits() -> None:
    """A signed document beyond the limits is refused before it is looked into."""
    bomb: Any = 1
    for _ in range(DEPTH_LIMIT + 1):
        bomb = [bomb]
    assert judged(forged({"schema": "aos.golden/1", "bomb": bomb})).verdict is Verdict.TAMPERED
    refused = document_of(DATA, limit_bytes=100)
    assert isinstance(refused, Flaw)
    assert refused.verdict is Verdict.UNREADABLE


def test_another_version_is_unreadable() -> None:
    """A golden of a later format, signed by our key, is neither valid nor tampered."""
    text = forged({**json.loads(ONE.text), "schema": "aos.golden/2"})
    finding = judged(text)
    assert finding.verdict is Verdict.UNREADABLE
    assert "aos.golden/2" in finding.reason


def test_a_golden_under_another_name_is_swapped() -> None:
    """The name is not in the signature; it is compared with the run and workflow, which are."""
    other = golden()
    finding = judged(other.text, name=ONE.name)
    assert finding.verdict is Verdict.SWAPPED
    assert other.name in finding.reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    )
)
def test_any_json_gets_a_verdict(value: Any) -> None:
    """Whatever is in a signed file, verifying ends with a verdict, and it is not VALID."""
    for document in (value, {"signature": value, "x": value}, {**ONE.document, "steps": value, "splices": value}):
        text = forged(document) if isinstance(document, dict) else json.dumps(document)
        assert not judged(text).is_valid


# --- files and folders without a ledger -------------------------------------------------------------------------


def test_a_folder_without_a_database_is_verified_file_by_file(tmp_path: Path) -> None:
    """Every *.json gets its verdict; temporary files and other names are none of them."""
    good, foreign, cut = golden(), golden(KeyRing.of(FOREIGN_SECRET)), golden()
    written(tmp_path, good)
    written(tmp_path, foreign)
    written(tmp_path, cut).write_text(cut.text[:500])
    (tmp_path / "stray.json").write_text("[]")
    (tmp_path / f"{good.name}.aa.tmp").write_text("{")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    report = Verifier(KEYS).folder(tmp_path)
    assert {Path(finding.path).name: finding.verdict.value for finding in report.findings} == {
        good.name: "VALID",
        foreign.name: "WRONG_KEY",
        cut.name: "TRUNCATED",
        "stray.json": "UNSIGNED",
        "folder.json": "UNREADABLE",
        "pipe.json": "UNREADABLE",
    }
    assert not report.is_valid


def test_two_swapped_files_are_both_reported(tmp_path: Path) -> None:
    """Files that exchanged their names are both SWAPPED."""
    one, other = golden(), golden()
    written(tmp_path, one, name=other.name)
    written(tmp_path, other, name=one.name)
    assert [finding.verdict.value for finding in Verifier(KEYS).folder(tmp_path).findings] == ["SWAPPED"] * 2


# --- the folder the ledger is about -------------------------------------------------------------------------------


def test_a_deleted_golden_is_missing(home: Home) -> None:
    """What the ledger says was recorded and is not there is reported with its run."""
    path, other = home.recorded(2)
    path.unlink()
    (finding,) = [finding for finding in home.findings() if not finding.is_valid]
    assert (finding.verdict, Path(finding.path).name) == (Verdict.MISSING, path.name)
    assert finding.run_id == path.stem[2:]
    assert home.verdicts() == {path.name: "MISSING"}
    assert other.exists()


def test_deletion_by_retention_is_no_alarm(home: Home) -> None:
    """A golden older than the retention may be gone; it is only counted."""
    path, _ = home.recorded(2)
    path.unlink()
    verifier = Verifier(home.keys, ledger=home.ledger, home=home.folder, retention_s=-1)
    report = verifier.folder(home.folder)
    assert report.is_valid
    assert report.expired == 1


def test_elsewhere_nothing_is_missing(home: Home, tmp_path: Path) -> None:
    """A copy of a part of the goldens in another folder is verified by itself."""
    path, _ = home.recorded(2)
    copy_ = tmp_path / "copy"
    copy_.mkdir()
    (copy_ / path.name).write_bytes(path.read_bytes())
    written(copy_, golden())
    assert home.verifier.folder(copy_).is_valid
    assert not home.verifier.is_home(copy_)
    (tmp_path / "link").symlink_to(home.folder)
    assert home.verifier.is_home(tmp_path / "link")


def test_a_planted_golden_is_found(home: Home) -> None:
    """A golden with a right signature that nobody recorded is PLANTED."""
    home.recorded()
    planted = written(home.folder, golden())
    assert home.verdicts() == {planted.name: "PLANTED"}
    assert home.verifier.file(planted).verdict is Verdict.PLANTED


def test_a_planted_golden_of_a_wanted_run_needs_its_hash(home: Home) -> None:
    """That a run's golden is still to come does not let in another's answer."""
    home.recorded()
    run_id = home.run()
    planted = written(home.folder, golden(run_id=run_id, workflow="w", seed=99))
    assert home.verdicts() == {planted.name: "PLANTED"}


def test_a_rewritten_golden_differs_from_the_ledger(home: Home) -> None:
    """Consistent in itself and signed with the right key, but not what was recorded: TAMPERED."""
    (path,) = home.recorded()
    original = Golden.read(path)
    document = {**json.loads(original.text), "recorded_at": 1.0}
    document["content_sha256"] = content_sha256(document)
    path.write_text(forged(document))
    assert judge(path.read_bytes(), "x", KEYS, name=path.name).is_valid
    finding = home.verifier.file(path)
    assert finding.verdict is Verdict.TAMPERED
    assert "ledger" in finding.reason
    foreign = KeyRing.of(FOREIGN_SECRET)
    path.write_text(forged({**document, "key_id": foreign.newest().id}, foreign))
    assert home.verdicts() == {path.name: "TAMPERED"}


def test_swapped_recorded_goldens_are_found(home: Home) -> None:
    """Exchanged names are SWAPPED also where the ledger is asked."""
    one, other = home.recorded(2)
    ours, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(ours)
    assert home.verdicts() == {one.name: "SWAPPED", other.name: "SWAPPED"}


def test_a_changed_ledger_is_a_finding_of_its_own(home: Home) -> None:
    """Goldens are judged all the same; the ledger's break is reported beside them."""
    path, _ = home.recorded(2)
    with home.bench.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER golden_ledger_no_update"))
        connection.execute(text("UPDATE golden_ledger SET key_id = 'x' WHERE seq = 1"))
    assert home.verdicts() == {home.folder.name: "LEDGER_BROKEN"}
    assert path.exists()


def test_verifying_beside_a_recorder_raises_no_alarm(home: Home) -> None:
    """What is recorded, re-signed and pruned between the looks at ledger and folder is neither planted nor missing."""
    home.recorded(2)
    late: list[Path] = []

    def meanwhile(_finding: Finding) -> None:
        if not late:
            late.extend(home.recorded())

    report = home.verifier.folder(home.folder, on_each=meanwhile)
    assert report.is_valid
    assert home.verdicts() == {}


def test_many_goldens_are_verified_quickly(tmp_path: Path) -> None:
    """A hundred goldens take a second or so, not minutes."""
    for _ in range(100):
        written(tmp_path, golden(size=10))
    began_s = time.monotonic()
    assert Verifier(KEYS).folder(tmp_path).is_valid
    assert time.monotonic() - began_s < 20


def test_a_name_is_what_the_recorder_gives(home: Home) -> None:
    """File names, the ledger's names and the golden's own name are one."""
    (path,) = home.recorded()
    one = Golden.read(path)
    assert path.name == one.name == golden_name(one.workflow, one.run_id) == home.ledger.entries()[0].name


# --- what a hostile or unlucky file must not do -----------------------------------------------------------------


@pytest.mark.parametrize("address", [[], {}, 1, None])
def test_an_address_that_is_no_text_is_a_tampered_step(address: Any) -> None:
    """A step whose address cannot be one gets a verdict, and does not keep others from getting theirs."""
    text = changed(lambda document: document["steps"][0].update(address=address), resealed=True)
    assert judged(laundered(text, SECRET)).verdict is Verdict.TAMPERED


@pytest.mark.parametrize("name", ["run_id", "workflow", "logical_time", "splices", "seed", "steps"])
def test_a_laundered_golden_without_a_part_is_tampered(name: str) -> None:
    """What the runbook's snippet signs is not VALID for that: a golden that could not be replayed is none."""
    text = changed(lambda document: document.pop(name), resealed=True)
    assert judged(laundered(text, SECRET)).verdict is Verdict.TAMPERED


def test_a_file_that_is_being_written_in_place_is_looked_at_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees half of a file while the runbook's snippet writes it raises no alarm."""
    (path,) = home.recorded(1)
    whole = path.read_bytes()
    path.write_bytes(b"")
    verifier = home.verifier
    monkeypatch.setattr(verifier._clock, "sleep", lambda _duration_s: path.write_bytes(whole))
    assert verifier.file(path).verdict is Verdict.VALID


def test_a_golden_on_demand_whose_writer_died_is_still_to_be_entered(home: Home) -> None:
    """A file that was placed and not entered is no planted one: the run says that its golden is wanted."""
    run_id = home.run(golden=False)
    path = home.recorder.record(run_id)
    with home.bench.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET golden = 'wanted'"))
        connection.execute(text("DROP TRIGGER IF EXISTS golden_ledger_no_delete"))
        connection.execute(text("DELETE FROM golden_ledger"))
    assert home.verifier.file(path).verdict is Verdict.VALID
