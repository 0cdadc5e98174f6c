"""Control: under which circumstances a step is performed once more; one thing at a time differs from a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Of the processes in which a step is compared with itself.
HASH_SEEDS = (0, 1)
#: Other surroundings: what differs between two machines, and may not show in an output.
ELSEWHERE: Mapping[str, str] = {
    "HOME": "/nonexistent/elsewhere",
    "USER": "somebody",
    "LOGNAME": "somebody",
    "USERNAME": "somebody",
    "HOSTNAME": "elsewhere",
    "LANG": "C",
    "AOS_CONTROL": "1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """How one performance differs from another.

    hash_seed      of the process; None: a new one
    environment    variables that have other values, ``time_zone`` (TZ) and ``folder`` (cwd) likewise
    host           the name of the machine
    passes         how often everything is performed, in one process
    shuffle        a seed: siblings are performed in another order
    addresses      which steps are performed; None: all
    run_seed       instead of the run's own
    instrument     user modules are imported with hooks, so that the call sites are seen
    freeze         clock, chance, orders and identities are the same in every process (needs ``instrument``)
    disturb        call site -> which disturbance
    disturb_state  what steps kept in their modules is changed before the last step is performed
    shake          a seed: threads lose time at random places
    trace          lines are traced while the last step is performed
    is_fresh       the user's modules are imported anew for it; what is set before an import always is
    """

    hash_seed: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    time_zone: str | None = None
    folder: str | None = None
    host: str | None = None
    passes: int = 1
    shuffle: int | None = None
    addresses: tuple[str, ...] | None = None
    run_seed: int | None = None
    instrument: bool = False
    freeze: bool = False
    disturb: Mapping[str, int] = field(default_factory=dict)
    disturb_state: bool = False
    shake: int | None = None
    trace: bool = False
    is_fresh: bool = False

    def as_json(self) -> dict[str, Any]:
        is_elsewhere = bool(self.environment or self.time_zone or self.folder or self.host)
        return {**asdict(self), "is_fresh": self.is_fresh or is_elsewhere}


#: In a process of its own with a hash seed of its own, nothing else.
NATURAL = Control()
#: All of them at once: what does not notice this, notices none.
ELSEWHERE_ALTOGETHER = Control(environment=ELSEWHERE, host="elsewhere", time_zone="Pacific/Marquesas", folder="/")
