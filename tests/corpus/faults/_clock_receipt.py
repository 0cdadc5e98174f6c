"""Receipts, as the shop prints them."""

from datetime import datetime


def numbered(shop: str) -> str:
    now = datetime.utcnow()  # <- fault
    return f"{shop}-{now:%Y%m%d%H%M%S%f}"
