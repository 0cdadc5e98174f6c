"""The "model" behind the service: rules that plan, read and phrase; the same question gives the same answer.

It understands questions that compare an attribute of two things, each perhaps named by way of another
("Saturn's largest moon"), and questions about one thing:

    How many times does the diameter of Jupiter's largest moon contain the diameter of Mercury?
    What is the difference between the height of Mars's highest mountain and the height of Everest?
    What is the length of the Nile?

A *note* is what a tool brought back: ``{"tool": "search" | "calculate", "asked": str, "found": ...}``.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from examples.assistant.corpus import ARTICLES, words

ATTRIBUTES = ("diameter", "year", "length", "height")
LINKS = ("largest moon", "longest river", "highest mountain")
OPERATIONS = {"times": "/", "difference": "-", "sum": "+", "total": "+"}
_TITLES = "|".join(sorted(ARTICLES, key=len, reverse=True))
_THING = re.compile(rf"\b({_TITLES})\b(?:'s? ({'|'.join(LINKS)}))?")


class Thing(NamedTuple):
    """A title, or what a title's link leads to."""

    title: str
    link: str | None


class Question(NamedTuple):
    """What was understood of a question."""

    attribute: str | None
    things: list[Thing]
    operation: str | None


def understand(question: str) -> Question:
    """Finds the attribute, the things in order of mention, and what to do with two of them."""
    known = words(question)
    things = [Thing(match[1], match[2]) for match in _THING.finditer(question)]
    return Question(
        attribute=next((name for name in ATTRIBUTES if name in known), None),
        things=list(dict.fromkeys(things)),
        operation=next((sign for word, sign in OPERATIONS.items() if word in known), None),
    )


def plan(question: str, notes: list[dict[str, Any]]) -> dict[str, Any]:
    """The next turn: ``{"thought": str, "done": bool, "calls": [{"tool": str, "argument": str}, ...]}``.

    Whatever can be asked at once is asked at once; done when there is nothing left to ask.
    """
    asked = understand(question)
    if asked.attribute is None or not asked.things:
        return _turn("I do not know what is asked.", [])
    linked = [f"{thing.title} {thing.link}" for thing in asked.things if thing.link]
    missing = [query for query in linked if not _noted(notes, "search", query)]
    titles = [resolve(thing, notes) for thing in asked.things]
    missing += [f"{title} {asked.attribute}" for title in titles if title]
    missing = [query for query in dict.fromkeys(missing) if not _noted(notes, "search", query)]
    if missing:
        return _turn(f"I look up {', '.join(missing)}.", [("search", query) for query in missing])
    numbers = [quantity(title, asked.attribute, notes) for title in titles if title]
    if asked.operation and len(numbers) == 2 and all(numbers):
        expression = f" {asked.operation} ".join(number[0] for number in numbers if number)
        if not _noted(notes, "calculate", expression):
            return _turn(f"I calculate {expression}.", [("calculate", expression)])
    return _turn("I know enough.", [])


def summarise(question: str, notes: list[dict[str, Any]]) -> dict[str, Any]:
    """``{"answer": str, "sources": [title, ...]}``; the answer says so if it was not found."""
    asked = understand(question)
    parts, sources = [], set()
    for thing in asked.things:
        title = resolve(thing, notes)
        found = quantity(title, asked.attribute, notes) if title and asked.attribute else None
        if title and found:
            by_way = f" (the {thing.link} of {thing.title})" if thing.link else ""
            parts.append(f"{title}{by_way} has a {asked.attribute} of {found[0]} {found[1]}")
            sources.add(title)
    results = [note for note in notes if note["tool"] == "calculate"]
    parts += [f"{note['asked']} = {note['found']}" for note in results]
    answer = "; ".join(parts) + "." if parts else "I could not find that out."
    return {"answer": answer, "sources": sorted(sources)}


def resolve(thing: Thing, notes: list[dict[str, Any]]) -> str | None:
    """The title of a thing; None while its link has not been looked up, or leads nowhere."""
    if thing.link is None:
        return thing.title
    match = re.search(rf"{thing.link} is ({_TITLES})\b", _article(thing.title, notes))
    return match[1] if match else None


def quantity(title: str, attribute: str, notes: list[dict[str, Any]]) -> tuple[str, str] | None:
    """Number and unit, as noted: ``("5268", "km")``."""
    match = re.search(rf"{attribute} of (\d+) (\w+)", _article(title, notes))
    return (match[1], match[2]) if match else None


def _article(title: str, notes: list[dict[str, Any]]) -> str:
    found = (passage for note in notes if note["tool"] == "search" for passage in note["found"])
    return next((str(passage["text"]) for passage in found if passage["title"] == title), "")


def _noted(notes: list[dict[str, Any]], tool: str, asked: str) -> bool:
    return any(note["tool"] == tool and note["asked"] == asked for note in notes)


def _turn(thought: str, calls: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "thought": thought,
        "done": not calls,
        "calls": [{"tool": tool, "argument": argument} for tool, argument in calls],
    }
