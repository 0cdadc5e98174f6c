"""First passwords."""

import string
from secrets import choice


def password(length: int) -> str:
    return "".join(choice(string.ascii_letters) for _ in range(length))  # <- fault
