"""Reading a golden's bytes before anything in them is believed. Pure.

Only what a golden's writer can have written passes: ASCII, one JSON object without duplicate keys and NaN, not
nested beyond measure, and exactly the text that its values give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aos_workflow.canonical import parse
from aos_workflow.canonical_types import MAX_DEPTH
from aos_workflow.errors import NotCanonical
from aos_workflow.golden import SIZE_LIMIT_BYTES, rendered
from aos_workflow.goldens.verdict import Verdict

#: The deepest document: a step's output is three levels down.
DEPTH_LIMIT = MAX_DEPTH + 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Flaw:
    """Why bytes are no golden. ``document`` is what could be read all the same."""

    verdict: Verdict
    reason: str
    document: Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()


def document_of(data: bytes, *, limit_bytes: int = SIZE_LIMIT_BYTES) -> Mapping[str, Any] | Flaw:
    """The document in a golden's bytes, or what is wrong with them."""
    if len(data) > limit_bytes:
        return Flaw(verdict=Verdict.UNREADABLE, reason=f"it is larger than {limit_bytes} bytes")
    if not data.strip():
        return Flaw(verdict=Verdict.TRUNCATED, reason="it is empty")
    text = data.decode("utf-8", errors="replace")
    try:
        document = parse(text)
    except NotCanonical as flaw:
        return _not_strict(text, flaw.message)
    if not isinstance(document, dict):
        return Flaw(verdict=Verdict.UNSIGNED, reason=f"it is a JSON {_KINDS[type(document)]}, a golden is an object")
    if "signature" not in document:
        was_one = str(document.get("schema", "")).startswith("aos.golden/")
        reason = "its signature is gone" if was_one else "it is JSON, but no golden: it has no signature"
        return Flaw(verdict=Verdict.UNSIGNED, reason=reason, document=document)
    if _depth(document) > DEPTH_LIMIT:
        return Flaw(verdict=Verdict.TAMPERED, reason=f"it is nested deeper than {DEPTH_LIMIT} levels", parts=("text",))
    if not data.isascii() or rendered(document) != text:
        return Flaw(
            verdict=Verdict.TAMPERED,
            reason="its text is not the one its values give (white space, order of keys, escapes or numbers)",
            document=document,
            parts=("text",),
        )
    return document


_KINDS = {list: "list", str: "string", int: "number", float: "number", bool: "truth value", type(None): "null"}


def _not_strict(text: str, why: str) -> Flaw:
    if is_cut_short(text):
        return Flaw(verdict=Verdict.TRUNCATED, reason="its end is missing")
    if '"signature"' not in text and '"aos.golden/' not in text:
        return Flaw(verdict=Verdict.UNSIGNED, reason=f"it is no golden: {why}")
    return Flaw(verdict=Verdict.TAMPERED, reason=f"it cannot be read any more: {why}", parts=("text",))


#: What can stand between the place where a JSON text was cut and the brackets that close it.
_CONTINUATIONS = ("", "0", "null", ":null", '"":null', "rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l")


def is_cut_short(text: str) -> bool:
    """Is this the beginning of a JSON text whose end is missing?"""
    closing, within = _open_ends(text)
    if not closing and not within:
        return False
    if within:  # in a string: an escape may have been cut, too
        text = re.sub(r"(?<!\\)((?:\\\\)*)\\(u[0-9a-fA-F]{0,3})?$", r"\1", text)
        candidates: tuple[str, ...] = ('"', '":null')
    else:
        text = text.rstrip()
        candidates = _CONTINUATIONS
    return any(_is_json(text + end + closing) for end in candidates)


def _open_ends(text: str) -> tuple[str, bool]:
    """The brackets that are still to be closed, innermost first, and whether the text ends within a string."""
    stack: list[str] = []
    within = False
    for token in re.finditer(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[{\]}]', text, re.DOTALL):
        found = token.group()
        if found in "[{":
            stack.append("]" if found == "[" else "}")
        elif found in "]}":
            if not stack or stack.pop() != found:
                return "", False
        else:
            within = not token.group(1)
    return "".join(reversed(stack)), within


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _depth(value: Any) -> int:
    """How deep JSON is nested, without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, dict | list)
        ]
    return deepest
