"""The key ring: what a signature is, which keys count, and that no secret ever shows."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.errors import AosError, GoldenKeyMissing, SettingsError
from aos_workflow.signing import KeyRing, key_of

NEW, OLD, THIRD = "1f" * 32, "2e" * 32, "3d" * 32
DOCUMENT: dict[str, Any] = {"schema": "x", "n": 1.5, "text": "é", "deep": {"b": [1, None], "a": True}}


def key_file(path: Path, *entries: tuple[str, str], mode: int = 0o600) -> Path:
    """Write a key file as a whole, as an operator should."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([{"secret": secret, "state": state} for secret, state in entries]))
    fresh.chmod(mode)
    os.replace(fresh, path)
    return path


def signed(ring: KeyRing, document: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    return {**document, "signature": ring.sign(document)}


def test_the_test_vector() -> None:
    """The signature of a known document under a known secret is the known one; the raw-key variant is not."""
    secret = "0123456789abcdef" * 4
    steps = [{"i": 0, "out": {"b": 1, "a": 2.5}}]
    document = {"schema": "aos.golden/1", "key_id": "k-2026-11", "run_id": "r1", "seed": 12345, "note": "é"}
    signature = KeyRing.of(secret).sign({**document, "steps": steps})
    assert signature == "a049d14feb2b8df6ec2d2c798ad2cff6d71a66c6141bd6b8bc86a89a3ddb0aba"
    content = json.dumps({**document, "steps": steps}, sort_keys=True).encode()
    assert hmac.new(bytes.fromhex(secret), content, hashlib.sha256).hexdigest() != signature


def test_a_signature_is_the_snippets() -> None:
    """It is what the runbook's three lines compute, whatever signature was there before."""
    data = {**DOCUMENT, "signature": "an old one"}
    content = json.dumps({k: v for k, v in data.items() if k != "signature"}, sort_keys=True)
    assert KeyRing.of(NEW).sign(data) == hmac.new(NEW.encode(), content.encode(), hashlib.sha256).hexdigest()


def test_a_key_has_an_id() -> None:
    """The id is the first 12 hex digits of SHA-256 over a prefix and the secret as text, spaces around it left out."""
    expected = hashlib.sha256(b"aos-kid\0" + NEW.encode()).hexdigest()[:12]
    assert KeyRing.of(f" {NEW}\n").newest().id == key_of(NEW).id == expected


def test_the_newest_signs_and_all_verify() -> None:
    """A document signed under any key of the ring verifies, and says which key it was."""
    ring = KeyRing.of(NEW, [OLD, " ", THIRD])
    assert ring.ids == tuple(key_of(secret).id for secret in (NEW, OLD, THIRD))
    for secret in (NEW, OLD, THIRD):
        key = ring.verify(signed(KeyRing.of(secret)))
        assert key is not None
        assert key.id == key_of(secret).id
    assert signed(ring) == signed(KeyRing.of(NEW))


@pytest.mark.parametrize("signature", [None, 7, "", "0" * 64, "é" * 64, "\ud800", ["a"]])
def test_no_signature_is_no_signature(signature: Any) -> None:
    """Whatever stands for a signature and is none verifies under no key."""
    assert KeyRing.of(NEW).verify({**DOCUMENT, "signature": signature}) is None
    assert KeyRing.of(NEW).verify(DOCUMENT) is None


def test_the_key_id_in_a_document_is_not_believed() -> None:
    """Naming an accepted key does not make a foreign signature valid."""
    document = {**DOCUMENT, "key_id": key_of(NEW).id}
    assert KeyRing.of(NEW).verify(signed(KeyRing.of(OLD), document)) is None


def test_an_empty_ring_says_what_to_set() -> None:
    """Without a key nothing is signed, nothing verifies, and the error names the variable."""
    for ring in (KeyRing.of(), KeyRing.of(" ", [OLD])):
        with pytest.raises(GoldenKeyMissing, match="GOLDEN_HMAC_SECRET"):
            ring.sign(DOCUMENT)
    assert KeyRing.of().verify(signed(KeyRing.of(NEW))) is None


def test_a_key_file(tmp_path: Path) -> None:
    """The first active key of the file signs, the others verify, revoked ones do not; a given secret goes first."""
    path = key_file(tmp_path / "keys", (THIRD, "verify_only"), (NEW, "active"), (OLD, "revoked"))
    ring = KeyRing.of(file=path)
    assert ring.newest() == key_of(NEW)
    assert ring.ids == (key_of(NEW).id, key_of(THIRD).id)
    assert ring.verify(signed(KeyRing.of(OLD))) is None
    assert KeyRing.of("given", file=path).newest() == key_of("given")


def test_a_revoked_key_is_revoked_wherever_it_is_given(tmp_path: Path) -> None:
    """The file's word against a key also counts for the environment's."""
    path = key_file(tmp_path / "keys", (OLD, "revoked"))
    ring = KeyRing.of(OLD, [THIRD], path)
    assert ring.ids == (key_of(THIRD).id,)
    with pytest.raises(GoldenKeyMissing):
        ring.newest()


def test_a_rotation_needs_no_restart(tmp_path: Path) -> None:
    """A ring follows its file: first the new key verifies, then it signs, and nothing ever fails in between."""
    path = key_file(tmp_path / "keys", (OLD, "active"))
    service, other = KeyRing.of(file=path), KeyRing.of(file=path)
    before = signed(service)
    for entries in ([(OLD, "active"), (NEW, "verify_only")], [(NEW, "active"), (OLD, "verify_only")]):
        key_file(path, *entries)
        assert other.verify(signed(service))
        assert other.verify(before)
    assert service.newest() == key_of(NEW)
    key_file(path, (NEW, "active"), (OLD, "revoked"))
    assert service.verify(before) is None


def test_a_file_that_breaks_later_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A running process keeps its keys when the file is gone, half written or too open, and says so."""
    path = key_file(tmp_path / "keys", (NEW, "active"))
    ring = KeyRing.of(file=path)
    with caplog.at_level(logging.WARNING):
        for damage in (lambda: path.write_text('[{"sec'), lambda: path.chmod(0o644), path.unlink):
            damage()
            assert ring.newest() == key_of(NEW)
    assert len(caplog.records) == 3
    assert NEW not in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Group and world have no business in it; the error says which mode and which command."""
    path = key_file(tmp_path / "keys", (NEW, "active"), mode=mode)
    with pytest.raises(SettingsError, match=f"{mode:04o}.*chmod 600"):
        KeyRing.of(file=path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no JSON list"),
        (f'[{{"secret": "{NEW}", "state": "active"', "no JSON list"),
        ('[{"state": "active"}]', "entry 1 has no secret"),
        (f'["{NEW}"]', "entry 1 has no secret"),
        (f'[{{"secret": "{NEW}", "state": "on"}}]', "state of entry 1 is none of active, verify_only, revoked"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """The error says what is wrong where, and shows nothing of what is in the file, not even in its causes."""
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=why) as refused:
        KeyRing.of(file=path)
    seen: BaseException | None = refused.value
    while seen is not None:
        assert NEW not in "".join(traceback.format_exception(seen)) + repr(vars(seen))
        seen = seen.__context__


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: os.mkfifo(path)])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Any) -> None:
    """Nothing there, a folder and a pipe are refused at once, with the path."""
    path = tmp_path / "keys"
    make(path)
    with pytest.raises(SettingsError, match=r"AOS_GOLDEN_KEYS_FILE .*keys"):
        KeyRing.of(file=path)


def test_no_secret_shows(tmp_path: Path) -> None:
    """Neither rings, keys, key files nor errors have a secret in their text."""
    ring = KeyRing.of(NEW, [OLD], key_file(tmp_path / "keys", (THIRD, "active")))
    texts = [repr(ring), str(ring), repr(ring.newest()), repr(ring.file)]
    try:
        KeyRing.of().newest()
    except AosError as error:
        texts.append(repr(error.as_json()))
    assert not any(secret in text for text in texts for secret in (NEW, OLD, THIRD))
