"""Rates, as the finance team keeps them."""

import csv


def rates(path: str) -> dict[str, float]:
    with open(path, newline="", encoding="utf-8") as file:  # <- fault
        return {row["code"]: float(row["rate"]) for row in csv.DictReader(file)}  # <- fault
