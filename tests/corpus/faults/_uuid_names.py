"""Names for files."""

from uuid import uuid4


def unique_name(stem: str) -> str:
    return f"{stem}-{uuid4().hex[:8]}.csv"  # <- fault
