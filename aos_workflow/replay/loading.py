"""From what the user named to what can be replayed: golden files, and runs in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aos_workflow.errors import GoldenInvalid, SettingsError
from aos_workflow.golden import Golden, GoldenRecorder, content_sha256
from aos_workflow.replay.targets import Target, golden_files, read_targets
from aos_workflow.signing import KeyRing


class Loader:
    """Reads recordings. ``recorder`` is None where no database is configured: then there are only files."""

    def __init__(self, keys: KeyRing, recorder: GoldenRecorder | None = None) -> None:
        self._keys = keys
        self._recorder = recorder

    def targets(self, names: Sequence[str]) -> list[Target]:
        """One target per golden and run that ``names`` stand for; what cannot be read carries its error.

        Raises BadOption for a path that is not there and a folder without goldens.
        """
        files, runs = golden_files(names)
        return read_targets(files, runs, read=self.golden, load=self.run)

    def golden(self, path: Path) -> Mapping[str, Any]:
        """The document of a golden that may be believed; raises GoldenInvalid, GoldenUnreadable.

        Without any key the signature cannot be checked, only that the content was not changed by accident.
        """
        golden = Golden.read(path)
        document = golden.document
        if document.get("content_sha256") != content_sha256(document):
            raise _invalid(path, "its content was changed")
        if self._keys.keys() and self._keys.verify(document) is None:
            raise _invalid(path, "no key of the ring has signed it")
        return document

    def run(self, run_id: str) -> Mapping[str, Any]:
        """What the golden of a run would hold; raises RunNotFound, RunNotFinished, BadOption, SettingsError."""
        if self._recorder is None:
            raise SettingsError(
                f"{run_id!r} is no file, and AOS_DATABASE_URL is not set to look for a run of that id",
                fix="name a golden file or a folder, or set AOS_DATABASE_URL",
            )
        return self._recorder.recording(run_id).as_json()


def _invalid(path: Path, why: str) -> GoldenInvalid:
    return GoldenInvalid(f"{path} is not replayed: {why}", fix=f"see: aos golden verify {path}", path=str(path))
