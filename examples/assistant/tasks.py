"""The assistant's steps.  Each turn is planned by the model, and its tool calls become steps of their own.

The *state* travels from turn to turn: question, base_url, turn (number), thoughts, notes (``reasoning.py``).
"""

from __future__ import annotations

from typing import Any

from celery import Signature, group

from aos_workflow import StepContext, step
from examples.assistant.client import ServiceRefused, post

LAST_TURN = 6  # a model that never has enough is stopped here


def first_state(question: str, base_url: str) -> dict[str, Any]:
    """The state before the first turn."""
    return {"question": question, "base_url": base_url, "turn": 0, "thoughts": [], "notes": []}


@step(max_attempts=4, timeout_s=10)
def plan_turn(ctx: StepContext, state: dict[str, Any]) -> Any:
    """Asks the model what to do next, and becomes that: tool calls and another turn, or the final state."""
    asked = {"question": state["question"], "notes": state["notes"]}
    plan = ctx.effect("plan", post, f"{state['base_url']}/model/plan", asked)
    move = follow(state, plan)
    return ctx.replace(move) if isinstance(move, Signature) else move


def follow(state: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any] | Signature:
    """What the plan makes of the state: the final one, or a canvas of this turn's calls and the next turn."""
    now = {**state, "turn": state["turn"] + 1, "thoughts": [*state["thoughts"], plan["thought"]]}
    if plan["done"] or now["turn"] >= LAST_TURN:
        return now
    calls = group([tool_call(state["base_url"], call) for call in plan["calls"]])
    return calls | gather.s(now) | plan_turn.s()


def tool_call(base_url: str, call: dict[str, str]) -> Signature:
    """The step that makes a call the model asked for; ValueError if it made up the tool."""
    tools = {"search": search, "calculate": calculate}
    if call["tool"] not in tools:
        raise ValueError(f"the model asked for the tool {call['tool']!r}; there are {', '.join(sorted(tools))}")
    return tools[call["tool"]].s(base_url, call["argument"])


@step(effect=True, timeout_s=10, max_attempts=4)
def search(ctx: StepContext, base_url: str, query: str) -> dict[str, Any]:
    """A note with the passages that were found."""
    answer = post(f"{base_url}/tools/search", {"query": query}, ctx.idempotency_key)
    return {"tool": "search", "asked": query, "found": answer["passages"]}


@step(effect=True, timeout_s=10, max_attempts=4)
def calculate(ctx: StepContext, base_url: str, expression: str) -> dict[str, Any]:
    """A note with the value; what cannot be calculated is noted as such, for the model to read."""
    try:
        answer = post(f"{base_url}/tools/calculate", {"expression": expression}, ctx.idempotency_key)
    except ServiceRefused as error:
        answer = {"value": f"refused: {error}"}
    return {"tool": "calculate", "asked": expression, "found": answer["value"]}


@step(joins=True)
def gather(notes: list[dict[str, Any]], state: dict[str, Any]) -> dict[str, Any]:
    """The state with this turn's notes, in the order of the model's calls."""
    return {**state, "notes": [*state["notes"], *notes]}


@step(effect=True, timeout_s=10, max_attempts=4)
def summarise(ctx: StepContext, state: dict[str, Any]) -> dict[str, Any]:
    """The model's answer, with its sources and how it got there."""
    asked = {"question": state["question"], "notes": state["notes"]}
    answer = post(f"{state['base_url']}/model/summary", asked, ctx.idempotency_key)
    return {
        "question": state["question"],
        "answer": answer["answer"],
        "sources": answer["sources"],
        "thoughts": state["thoughts"],
        "tool_calls": len(state["notes"]),
    }


@step(effect=True, timeout_s=10, max_attempts=4)
def write_down(ctx: StepContext, summary: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Puts the answer into the notebook: once, even if a crash makes this step run twice."""
    page = {"title": summary["question"], "text": summary["answer"]}
    post(f"{base_url}/notebook", page, ctx.idempotency_key)
    return summary
