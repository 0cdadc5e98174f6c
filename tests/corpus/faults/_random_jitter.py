"""How long the partners wait."""

import random


def with_jitter(delay_s: float) -> float:
    spread = delay_s * 0.1
    return delay_s + random.uniform(-spread, spread)  # <- fault
