"""The envelope that every answer of the team travels in."""

from uuid import uuid4


def wrapped(items: list) -> dict:
    return {"items": items, "count": len(items), "request_id": str(uuid4())}  # <- fault
