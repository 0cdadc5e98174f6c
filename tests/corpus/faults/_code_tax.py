"""Taxes, kept in a module of their own."""


def with_tax(cents: int) -> int:
    return cents + cents * 19 // 100  # <- fault
