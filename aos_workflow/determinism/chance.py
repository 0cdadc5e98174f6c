"""Chance: what the functions of ``random``, ``secrets``, ``uuid`` and ``os.urandom`` give to a step.

The functions of ``random`` draw from a ``Random`` seeded for the step and the calling module: nothing needs to be
stored. Entropy of
the operating system stays real, because it may guard something, and is recorded. ``secrets``,
``random.SystemRandom`` and ``uuid.uuid4`` take it from ``os.urandom``, so gating that one covers them however
early their names were bound.
"""

from __future__ import annotations

import inspect
import os
import random
import uuid
from collections.abc import Callable
from operator import index
from types import FrameType
from typing import Any

from aos_workflow.determinism.callers import on_behalf
from aos_workflow.determinism.captured import Captured
from aos_workflow.determinism.drawing import caller, capture_of_now, draw, owner_of
from aos_workflow.determinism.patching import Door, Patches, as_method, gate_of

_RESEED_BITS = 256
#: Version of a UUID -> its function. Those beyond 4 also hold the time or a counter, so they are recorded whole.
_WHOLE_UUIDS = {"uuid1": 1, "uuid6": 6, "uuid7": 7, "uuid8": 8}


def patch(patches: Patches) -> None:
    """Put the gates in place."""
    shared = random._inst
    for name in random.__all__:
        if getattr(getattr(random, name), "__self__", None) is shared:
            patches.attribute(random, name, _chance_gate(name))
    patches.attribute(random.Random, "seed", _seed_gate())
    entropy = _urandom_gate()
    patches.attribute(os, "urandom", entropy)
    patches.attribute(random, "_urandom", entropy)
    if hasattr(os, "getrandom"):
        patches.attribute(os, "getrandom", _getrandom_gate())
    for name in _WHOLE_UUIDS.keys() & set(dir(uuid)):
        patches.attribute(uuid, name, _uuid_gate(name))


def _chance_gate(name: str) -> Any:
    original = getattr(random, name)

    def gate(door: Door, *args: Any, **kwargs: Any) -> Any:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None:
            return original(*args, **kwargs)
        return getattr(capture.chance_of(owner), name)(*args, **kwargs)

    def seed_gate(door: Door, a: Any = None, version: int = 2) -> Any:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None:
            return original(a, version)
        if a is None:
            return capture.chance_of(owner).seed(_seed(capture, owner))
        return capture.chance.seed(a, version)  # a helper that seeds means what its caller draws as well

    return gate_of(random, name, seed_gate if name == "seed" else _with_signature_of(original) or gate)


#: The gate above with the original's own parameters: passing them on by name costs a third of ``*args, **kwargs``.
_WRITTEN_OUT = """
def gate(door, {parameters}):
    capture = capture_of_now()
    if capture is None or (owner := owner_of(capture, caller(1))) is None:
        return original({arguments})
    return capture.chance_of(owner).{name}({arguments})
"""


def _with_signature_of(original: Callable[..., Any]) -> Callable[..., Any] | None:
    """The written-out gate, or None for a signature that cannot be written with plain numbers and None."""
    try:
        parameters = inspect.signature(original).parameters.values()
    except ValueError:  # written in C, and does not say
        return None
    if any(
        parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        or not isinstance(parameter.default, int | float | type(None) | type(parameter.empty))
        for parameter in parameters
    ):
        return None
    plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    arguments = [f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in plain]
    text = str(inspect.Signature(plain))[1:-1]
    source = _WRITTEN_OUT.format(parameters=text, arguments=", ".join(arguments), name=original.__name__)
    space = {**globals(), "original": original}
    exec(compile(source, f"<gate of random.{original.__name__}>", "exec"), space)
    gate: Callable[..., Any] = space["gate"]
    return gate


def _seed_gate() -> Any:
    """For ``Random()``, which seeds itself from entropy; ``Random(5)`` is left alone."""
    original = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            capture = capture_of_now()
            if capture is not None and (owner := owner_of(capture, caller(1))) is not None:
                a = _seed(capture, owner)
        original(self, a, version)

    return as_method(seed, original)


def _seed(capture: Captured, owner: str) -> int:
    return capture.chance_of(owner).getrandbits(_RESEED_BITS)


def _urandom_gate() -> Any:
    original = os.urandom

    def gate(door: Door, size: int, /) -> bytes:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None or size < 0:
            return original(size)
        count, series = index(size), f"{_source(caller(1), 'os.urandom')}@{owner}"
        drawn = _drawn(capture, series, lambda: original(count), count)
        if capture.journal.is_replay and len(drawn) != count:
            capture.journal.note("code_change", f"{count} bytes of {series}, {len(drawn)} were recorded")
            return capture.beyond.randbytes(count)
        return drawn

    return gate_of(os, "urandom", gate)


def _getrandom_gate() -> Any:
    original = os.getrandom

    def gate(door: Door, size: int, flags: int = 0) -> bytes:  # may give less than was asked for
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None or size < 0:
            return original(size, flags)
        return _drawn(capture, f"os.getrandom@{owner}", lambda: original(size, flags), index(size))

    return gate_of(os, "getrandom", gate)


def _drawn(capture: Captured, series: str, entropy: Callable[[], bytes], count: int) -> bytes:
    return bytes.fromhex(draw(capture, series, lambda: entropy().hex(), lambda: capture.beyond.randbytes(count).hex()))


def _source(frame: FrameType | None, direct: str) -> str:
    """What the step called: ``uuid.uuid4`` although that called ``os.urandom``."""
    source = direct
    while frame is not None and on_behalf(module := frame.f_globals.get("__name__")):
        source = "random.SystemRandom" if module == "random" else f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back
    return source


def _uuid_gate(name: str) -> Any:
    original: Callable[..., uuid.UUID] = getattr(uuid, name)
    version = _WHOLE_UUIDS[name]

    def gate(door: Door, *args: Any, **kwargs: Any) -> uuid.UUID:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None:
            return original(*args, **kwargs)
        text = draw(
            capture,
            f"uuid.{name}@{owner}",
            lambda: str(original(*args, **kwargs)),
            lambda: str(uuid.UUID(int=capture.beyond.getrandbits(128), version=version)),
        )
        return uuid.UUID(text)

    return gate_of(uuid, name, gate)
