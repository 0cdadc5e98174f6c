"""KeyRing: with which keys goldens are signed and verified. The newest signs, all verify.

A signature is what the rotation runbook computes: hex HMAC-SHA256 over ``json.dumps`` of the document without its
``signature``, keys sorted.  A key is the *text* of its secret, so 64 hex digits are 64 bytes, white space around
them left out.  Secrets are in no repr, no error and no log; a key is spoken of by its id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aos_workflow.errors import GoldenKeyMissing, SettingsError

log = logging.getLogger("aos_workflow.signing")

SIGNATURE = "signature"
STATES = ("active", "verify_only", "revoked")
#: The largest key file that is read, bytes.
LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """One secret and its id, the first 12 hex digits of SHA-256("aos-kid\\0" + secret)."""

    secret: bytes = field(repr=False)
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hashlib.sha256(b"aos-kid\0" + self.secret).hexdigest()[:12])

    def sign(self, content: str) -> str:
        """The signature of signed content (see ``signed_content``): 64 hex digits."""
        return hmac.new(self.secret, content.encode(), hashlib.sha256).hexdigest()


def key_of(secret: str) -> Key:
    """The key of a secret as it is written; white space around it does not count."""
    try:
        text = secret.strip().encode()
    except UnicodeEncodeError:
        text = b""
    if secret.strip() and not text:  # raised outside of "except": that error would carry the secret along
        raise SettingsError("a golden's key is no text in UTF-8", fix="make one with: openssl rand -hex 32")
    return Key(text)


def signed_content(document: Mapping[str, Any]) -> str:
    """The text that a signature is of: everything but the signature, as the runbook's snippet writes it."""
    return json.dumps({name: value for name, value in document.items() if name != SIGNATURE}, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class KeyRing:
    """The keys this process accepts. ``file`` is read again when it changes, so a rotation needs no restart."""

    given: tuple[Key, ...] = ()
    signs_given: bool = False
    file: KeyFile | None = None

    @classmethod
    def of(cls, newest: str = "", older: Sequence[str] = (), file: Path | None = None) -> KeyRing:
        """A ring from settings: ``newest`` signs, ``older`` only verify, then the keys of ``file``.

        Raises SettingsError for a file that cannot be used.
        """
        first = [key_of(newest)] if newest.strip() else []
        rest = [key_of(secret) for secret in older if secret.strip()]
        ring = cls(given=(*first, *rest), signs_given=bool(first), file=KeyFile(file) if file else None)
        ring.keys()  # a file that cannot be used is noticed at once
        return ring

    def keys(self) -> tuple[Key, ...]:
        """All keys a signature may be of, the one that signs first; revoked ones are not among them."""
        filed = self.file.keys() if self.file else ()
        revoked = {key.id for key, state in filed if state == "revoked"}
        active = [key for key, state in filed if state == "active"]
        others = [key for key, state in filed if state == "verify_only"]
        signing = self.given[:1] if self.signs_given else ()
        ordered = (*signing, *active, *self.given[len(signing) :], *others)
        return tuple({key.id: key for key in ordered if key.id not in revoked}.values())

    def newest(self) -> Key:
        """The key that signs; raises GoldenKeyMissing if there is none."""
        filed = self.file.keys() if self.file else ()
        revoked = {key.id for key, state in filed if state == "revoked"}
        signing = (*(self.given[:1] if self.signs_given else ()), *(key for key, state in filed if state == "active"))
        for key in signing:
            if key.id not in revoked:
                return key
        raise GoldenKeyMissing(
            "there is no key to sign goldens with",
            fix="set GOLDEN_HMAC_SECRET (openssl rand -hex 32), or list an active key in AOS_GOLDEN_KEYS_FILE",
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all accepted keys."""
        return tuple(key.id for key in self.keys())

    def sign(self, document: Mapping[str, Any]) -> str:
        """The newest key's signature; raises GoldenKeyMissing."""
        return self.newest().sign(signed_content(document))

    def verify(self, document: Mapping[str, Any]) -> Key | None:
        """The accepted key that signed this document, or None. The ``key_id`` in the document is not believed."""
        signature = document.get(SIGNATURE)
        if not isinstance(signature, str) or not signature.isascii():
            return None
        content = signed_content(document)
        for key in self.keys():
            if hmac.compare_digest(key.sign(content).encode(), signature.encode()):
                return key
        return None


class KeyFile:
    """A JSON list of ``{"secret": text, "state": "active" | "verify_only" | "revoked"}``, kept while it is unchanged.

    Once read, a file that becomes unreadable is logged and the keys that were read stay in force.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._mark: tuple[int, ...] | None = None
        self._keys: tuple[tuple[Key, str], ...] = ()

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    def keys(self) -> tuple[tuple[Key, str], ...]:
        """Every key with its state, in the order of the file; raises SettingsError if it never could be read."""
        with self._lock:
            if self._mark is None:
                self._mark, self._keys = self._read()
            else:
                self._look_again()
            return self._keys

    def _look_again(self) -> None:
        try:
            if _mark_of(os.stat(self.path)) != self._mark:
                self._mark, self._keys = self._read()
                log.info("golden keys read again: %s", ", ".join(f"{key.id} {state}" for key, state in self._keys))
        except (OSError, SettingsError) as error:
            log.warning("golden keys stay as they were: %s", error)

    def _read(self) -> tuple[tuple[int, ...], tuple[tuple[Key, str], ...]]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be opened") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self._unusable("it is no regular file")
            if found.st_mode & 0o077:
                raise self._unusable(
                    f"others may read or change it (mode {stat.S_IMODE(found.st_mode):04o})",
                    fix=f"chmod 600 {self.path}",
                )
            return _mark_of(found), self._parsed(os.read(descriptor, LARGEST_FILE))
        finally:
            os.close(descriptor)

    def _parsed(self, text: bytes) -> tuple[tuple[Key, str], ...]:
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, list):  # raised outside of "except": that error would carry the text along
            raise self._unusable("it is no JSON list")
        keys = []
        for number, entry in enumerate(entries, start=1):
            secret = entry.get("secret") if isinstance(entry, dict) else None
            if not isinstance(secret, str) or not secret.strip():
                raise self._unusable(f"entry {number} has no secret")
            if entry.get("state") not in STATES:
                raise self._unusable(f"the state of entry {number} is none of {', '.join(STATES)}")
            keys.append((key_of(secret), str(entry["state"])))
        return tuple(keys)

    def _unusable(self, why: str, *, fix: str = "") -> SettingsError:
        return SettingsError(
            f"AOS_GOLDEN_KEYS_FILE {self.path}: {why}",
            fix=fix or 'write a JSON list of {"secret": "...", "state": "active"}, readable by its owner only',
        )


def _mark_of(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
