"""What the search tool knows: plain facts about planets, moons, rivers and mountains, in the public domain.

Each article is a title and a text; every number has the form "<attribute> of <number> <unit>", and a named
thing "<attribute> is <name>", so that a reader as simple as ``reasoning.py`` can understand it.
"""

from __future__ import annotations

ARTICLES = {
    "Mercury": "Mercury is the first planet. It has a diameter of 4879 km, a year of 88 days, no moon.",
    "Venus": "Venus is the second planet. It has a diameter of 12104 km, a year of 225 days, no moon.",
    "Earth": "Earth is the third planet. It has a diameter of 12756 km and a year of 365 days. "
    "Its largest moon is Moon. Its longest river is Nile. Its highest mountain is Everest.",
    "Mars": "Mars is the fourth planet. It has a diameter of 6792 km and a year of 687 days. "
    "Its largest moon is Phobos. Its highest mountain is Olympus Mons.",
    "Jupiter": "Jupiter is the fifth planet. It has a diameter of 142984 km and a year of 4331 days. "
    "Its largest moon is Ganymede.",
    "Saturn": "Saturn is the sixth planet. It has a diameter of 120536 km and a year of 10747 days. "
    "Its largest moon is Titan.",
    "Uranus": "Uranus is the seventh planet. It has a diameter of 51118 km and a year of 30589 days. "
    "Its largest moon is Titania.",
    "Neptune": "Neptune is the eighth planet. It has a diameter of 49528 km and a year of 59800 days. "
    "Its largest moon is Triton.",
    "Moon": "The Moon goes round Earth. It has a diameter of 3475 km and a month of 27 days.",
    "Phobos": "Phobos goes round Mars. It has a diameter of 22 km.",
    "Ganymede": "Ganymede goes round Jupiter. It has a diameter of 5268 km.",
    "Titan": "Titan goes round Saturn. It has a diameter of 5150 km.",
    "Titania": "Titania goes round Uranus. It has a diameter of 1578 km.",
    "Triton": "Triton goes round Neptune. It has a diameter of 2707 km.",
    "Nile": "The Nile flows north to the Mediterranean. It has a length of 6650 km.",
    "Amazon": "The Amazon carries more water than any other river. It has a length of 6400 km.",
    "Danube": "The Danube flows from the Black Forest to the Black Sea. It has a length of 2850 km.",
    "Rhine": "The Rhine flows from the Alps to the North Sea. It has a length of 1230 km.",
    "Everest": "Everest stands in the Himalaya. It has a height of 8849 m.",
    "Mont Blanc": "Mont Blanc stands in the Alps. It has a height of 4806 m.",
    "Kilimanjaro": "Kilimanjaro stands in Tanzania. It has a height of 5895 m.",
    "Olympus Mons": "Olympus Mons is a shield volcano on Mars. It has a height of 21900 m.",
}


def search(query: str, *, limit: int = 2) -> list[dict[str, str]]:
    """The articles that share most words with the query, titles counting triple; ties by title."""
    wanted = words(query)
    scored = sorted(
        (-3 * len(wanted & words(title)) - len(wanted & words(text)), title) for title, text in ARTICLES.items()
    )
    return [{"title": title, "text": ARTICLES[title]} for score, title in scored[:limit] if score < 0]


def words(text: str) -> set[str]:
    """Lower-case words without punctuation and possessive endings: ``"Jupiter's moon?"`` -> jupiter, moon."""
    cleaned = text.lower().replace("'s", " ")
    return set("".join(letter if letter.isalnum() else " " for letter in cleaned).split())
