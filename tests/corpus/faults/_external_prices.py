"""Prices from the catalogue."""

import httpx


def price(url: str) -> int:
    return httpx.get(url, timeout=5).json()["cents"]  # <- fault
