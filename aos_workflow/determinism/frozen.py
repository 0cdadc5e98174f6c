"""Frozen: a world in which nothing comes from nowhere, so that two performances in two processes see the same."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, date, datetime
from typing import Any

from aos_workflow.determinism.disturbing import disturbed, other_object


class Frozen:
    """Values that are the same in every process, in the place of those that are not: a clock that ticks evenly,
    generators that always draw the same, numbers for objects."""

    def __init__(self) -> None:
        self._ticks = 0
        self._numbers: dict[Any, int] = {}

    def value(self, value: Any, args: tuple[Any, ...], name: str, variant: int) -> Any:
        """What a call that gave ``value`` gives instead. Variant 0 is the frozen world; others differ from it."""
        method = name.rpartition(".")[2]
        sequence = args[0] if args and hasattr(args[0], "__getitem__") and len(args[0]) else None
        if method == "choice" and sequence is not None:
            return sequence[-1 if variant else 0]
        if method == "sample" and sequence is not None and isinstance(value, list):
            return list(sequence[-len(value) :] if variant else sequence[: len(value)])
        if method in ("id", "hash"):
            number = self._numbers.setdefault(value, len(self._numbers) + 1)
            return 10_000 - number * 16 if variant else 20_000 + number * 16
        fixed = self._fixed(value)
        return disturbed(fixed, variant) if variant else fixed

    def _fixed(self, value: Any) -> Any:
        self._ticks += 1
        later_s = _NOW_S + self._ticks * 0.001
        match value:
            case bool():
                return True
            case int():
                return int(later_s * 1e9) if value > 10**12 else int(later_s) if value > 10**8 else 1
            case float():
                return later_s
            case str():
                drawn = random.Random(f"text {self._ticks}")
                letters = "0123456789abcdef" if _is_hex(value) else "abcdefghij"
                return "".join(drawn.choice(letters) for _ in value)
            case bytes():
                return random.Random(f"bytes {self._ticks}").randbytes(len(value))
            case datetime():
                moment = datetime.fromtimestamp(later_s, UTC)
                return moment.astimezone(value.tzinfo) if value.tzinfo else moment.replace(tzinfo=None)
            case date():
                return datetime.fromtimestamp(_NOW_S, UTC).date()
            case time.struct_time():
                return datetime.fromtimestamp(later_s, UTC).timetuple()
            case uuid.UUID():
                return uuid.UUID(int=random.Random(f"uuid {self._ticks}").getrandbits(128), version=value.version or 4)
            case random.Random():
                return random.Random("frozen")
        if type(value).__module__.startswith("numpy.random"):
            return other_object(value, 0)
        return value


#: When frozen clocks begin.
_NOW_S = 1_750_000_000.0


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)
