"""Lists without duplicates."""


def unique(values: list) -> list:
    return list(set(values))  # <- fault
