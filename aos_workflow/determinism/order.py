"""An order of siblings that is not the listed one, and the same for the same seed."""

from __future__ import annotations

from random import Random


def shuffled(addresses: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """``addresses`` in an order that ``seed`` chooses."""
    return tuple(Random(seed).sample(addresses, len(addresses)))
