"""Replay: performing a recorded run again, sealed, and comparing what comes out.

performing   one step of a recording, performed again in this process
replayer     a whole recording: verdict and first divergence
worker       the process that replays for others: JSON lines in, JSON lines out
crew         many recordings in parallel worker processes
targets      what the user named: files, folders, run ids
loading      from those to recordings
explain      the cause of a divergence: experiments (controls, observing), and what they mean (causes)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aos_workflow import wiring
from aos_workflow.golden import Golden
from aos_workflow.recording import Recording
from aos_workflow.replay.replayer import Replayed, replay_recording

if TYPE_CHECKING:
    from aos_workflow.replay.performing import Tasks

__all__ = ["Replayed", "replay"]


def replay(golden: Golden | Recording | Path | str, *, tasks: Tasks | None = None) -> Replayed:
    """Perform a golden (or the file of one) again in this process, sealed, and compare.

    ``tasks``: where its steps' functions are; None: in the app of this process (AOS_APP). What a step does is never
    raised, it is the answer. Raises GoldenInvalid and GoldenUnreadable for a file that is not to be believed.

    The seal holds for this call's thread and those it starts. A whole process without network is had through
    ``aos replay`` and the golden-verification task, which replay in processes of their own.
    """
    parts = wiring.runtime()
    path = None
    if isinstance(golden, str | Path):
        path = Path(golden)
        golden = Golden(parts.loader.golden(path))
    recording = golden.recording if isinstance(golden, Golden) else golden
    return replay_recording(
        recording,
        tasks or parts.tasks,
        golden=str(path) if path else None,
        volatile=parts.settings.volatile,
    )
