"""``# aos: allow`` and ``# aos: allow[rule, rule]``: what the author has looked at and accepts."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass

_ALLOW = re.compile(r"#\s*aos:\s*allow\b(?:\s*\[(?P<rules>[^\]]*)\])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """One comment. ``rules`` is empty when it allows whatever is found on its line."""

    line: int
    column: int
    text: str
    rules: tuple[str, ...] = ()

    def covers(self, rule: str) -> bool:
        return not self.rules or rule in self.rules


def allowances(source: str) -> dict[int, Allowance]:
    """Line -> the allowance in its comment. What looks like one inside a text is none."""
    found: dict[int, Allowance] = {}
    if not _ALLOW.search(source):
        return found
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (match := _ALLOW.search(token.string)):
            rules = tuple(rule.strip() for rule in (match["rules"] or "").split(",") if rule.strip())
            line, column = token.start
            found[line] = Allowance(line=line, column=column + match.start() + 1, text=match[0], rules=rules)
    return found
