"""Exact arithmetic on ``+ - * / ( )`` and decimal numbers; nothing else is evaluated."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

LONGEST = 200  # characters of an expression
PLACES = 4
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> str:
    """``"10 / 4"`` -> ``"2.5"``, rounded to four places; ValueError says what is not arithmetic."""
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has {len(expression)} characters, {LONGEST} are allowed")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"{expression!r} cannot be calculated: {error}") from error
    scaled = round(value * 10**PLACES)
    whole, fraction = divmod(abs(scaled), 10**PLACES)
    return f"{'-' * (scaled < 0)}{whole}.{fraction:0{PLACES}d}".rstrip("0").rstrip(".")


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in OPERATIONS:
            return OPERATIONS[type(operation)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Fraction(str(number))
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not arithmetic")
