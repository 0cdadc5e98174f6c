"""The assistant example: how its model reasons, what its service answers, how a turn becomes steps."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos_workflow import StepContext
from aos_workflow.canvas import compile_canvas
from aos_workflow.journal import EffectJournal
from examples.assistant import app, reasoning, tasks
from examples.assistant.calculator import calculate
from examples.assistant.client import ServiceBusy, ServiceRefused, post
from examples.assistant.corpus import ARTICLES, search
from examples.assistant.service import serving

ROOT = Path(__file__).parents[2]
DIAMETERS = "How many times does the diameter of Jupiter's largest moon contain the diameter of Mercury?"
CONVERSATIONS = [
    (
        DIAMETERS,
        [["Jupiter largest moon", "Mercury diameter"], ["Ganymede diameter"], ["5268 / 4879"]],
        "Ganymede (the largest moon of Jupiter) has a diameter of 5268 km; "
        "Mercury has a diameter of 4879 km; 5268 / 4879 = 1.0797.",
    ),
    (
        "What is the difference between the height of Everest and Mont Blanc?",
        [["Everest height", "Mont Blanc height"], ["8849 - 4806"]],
        "Everest has a height of 8849 m; Mont Blanc has a height of 4806 m; 8849 - 4806 = 4043.",
    ),
    ("What is the length of the Nile?", [["Nile length"]], "Nile has a length of 6650 km."),
    (
        "What is the sum of the diameter of Venus's largest moon and the diameter of Titania?",
        [["Venus largest moon", "Titania diameter"]],
        "Titania has a diameter of 1578 km.",
    ),
    ("Why?", [], "I could not find that out."),
]


def use_tool(call: dict[str, str]) -> dict[str, Any]:
    found: Any = search(call["argument"]) if call["tool"] == "search" else calculate(call["argument"])
    return {"tool": call["tool"], "asked": call["argument"], "found": found}


@pytest.mark.parametrize(("question", "turns", "answer"), CONVERSATIONS)
def test_a_conversation_goes_turn_by_turn_to_its_answer(question: str, turns: list[list[str]], answer: str) -> None:
    """The model asks for what can be asked at once, learns from it, and stops when it knows enough."""
    notes: list[dict[str, Any]] = []
    asked: list[list[str]] = []
    while not (plan := reasoning.plan(question, notes))["done"]:
        asked.append([call["argument"] for call in plan["calls"]])
        notes += [use_tool(call) for call in plan["calls"]]
    assert asked == turns
    assert reasoning.summarise(question, notes)["answer"] == answer


@given(st.text("Titan's ?", max_size=60), st.lists(st.sampled_from(sorted(ARTICLES)), max_size=3))
def test_the_model_always_comes_to_an_end(text: str, titles: list[str]) -> None:
    """No question keeps the model asking for more than four turns."""
    question = f"{text} total diameter of {' and '.join(titles)}"
    notes: list[dict[str, Any]] = []
    for _ in range(4):
        notes += [use_tool(call) for call in reasoning.plan(question, notes)["calls"]]
    assert reasoning.plan(question, notes)["done"]


def test_search_puts_the_title_first() -> None:
    """An article named in the query is found before those that only mention it."""
    assert [hit["title"] for hit in search("Jupiter's largest moon?")] == ["Jupiter", "Moon"]
    assert search("quasar") == []


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("10 / 4", "2.5"),
        ("2 + 3 * 4", "14"),
        ("-(1 - 0.9)", "-0.1"),
        ("1 / 3", "0.3333"),
        ("0.1 + 0.2", "0.3"),
        ("5-5", "0"),
    ],
)
def test_arithmetic_is_exact(expression: str, value: str) -> None:
    """Values are exact, rounded to four places only when they are written."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["1 / 0", "2 ** 9", "abs(1)", "x", "True", "'a'", "1 +", "", "1" * 201, "__import__('os')", "1j"],
)
def test_anything_but_arithmetic_is_refused(expression: str) -> None:
    """Names, calls, powers and broken text are errors, never evaluated."""
    with pytest.raises(ValueError, match=r"arithmetic|calculated|characters"):
        calculate(expression)


@pytest.fixture
def url() -> Iterator[str]:
    with serving() as address:
        yield address


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def test_the_service_plans_searches_calculates_and_sums_up(url: str) -> None:
    """Each endpoint gives over HTTP what its function gives."""
    first = post(f"{url}/model/plan", {"question": DIAMETERS, "notes": []})
    assert first == reasoning.plan(DIAMETERS, [])
    assert post(f"{url}/tools/search", {"query": "Titan"}) == {"passages": search("Titan")}
    assert post(f"{url}/tools/calculate", {"expression": "6 / 4"}) == {"value": "1.5"}
    summary = post(f"{url}/model/summary", {"question": DIAMETERS, "notes": []})
    assert summary == {"answer": "I could not find that out.", "sources": []}
    assert get(f"{url}/health") == {"ok": True}


def test_a_key_makes_the_second_call_harmless(url: str) -> None:
    """The notebook has one page after two calls with one key, and refuses that key for another page."""
    page = {"title": "Nile", "text": "6650 km"}
    assert post(f"{url}/notebook", page, "run:5") == post(f"{url}/notebook", page, "run:5") == {"kept": True}
    with pytest.raises(ServiceRefused, match="belongs to another body"):
        post(f"{url}/notebook", {**page, "text": "6400 km"}, "run:5")
    assert get(f"{url}/notebook") == {"notes": [page]}
    assert get(f"{url}/stats") == {"/notebook": {"answered": 1, "refused": 1, "repeated": 1}}


def test_a_flaky_service_says_when_to_come_back() -> None:
    """The first n tries of every distinct call fail with Retry-After, the next is answered."""
    with serving(flaky=2) as url:
        for query in ("Titan", "Triton"):
            for _ in range(2):
                with pytest.raises(ServiceBusy) as caught:
                    post(f"{url}/tools/search", {"query": query})
                assert caught.value.retry_after_s == 1
            assert post(f"{url}/tools/search", {"query": query})["passages"][0]["title"] == query
        assert get(f"{url}/stats") == {"/tools/search": {"answered": 2, "failed": 4}}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/tools/calculate", {"expression": "1 / 0"}, "400: .*cannot be calculated"),
        ("/tools/search", {}, "400: .*KeyError"),
        ("/tools/search", ["Titan"], "400: .*TypeError"),
        ("/tools/shell", {}, "404: .*there are /model/plan"),
        ("/tools/search", {"query": "x" * 1_000_001}, "413: "),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(url: str, path: str, body: Any, reason: str) -> None:
    """What will never work is told apart from what may work later."""
    with pytest.raises(ServiceRefused, match=reason):
        post(f"{url}{path}", body)


def test_what_is_not_json_is_refused(url: str) -> None:
    """A body that cannot be read is the caller's mistake."""
    request = urllib.request.Request(f"{url}/tools/search", data=b"{", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


def test_an_absent_service_is_an_os_error() -> None:
    """A call to a service that has ended fails as a connection, which is worth another try."""
    with serving() as url:
        pass
    with pytest.raises(OSError, match="refused"):
        post(f"{url}/health", {})


def test_the_service_runs_as_a_program() -> None:
    """Started by itself it prints its URL first and answers there."""
    command = [sys.executable, "-m", "examples.assistant.service", "--port", "0", "--latency-s", "0.001"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().strip()
            assert post(f"{url}/tools/calculate", {"expression": "2 * 3"}) == {"value": "6"}
        finally:
            program.terminate()


STATE = tasks.first_state(DIAMETERS, "http://127.0.0.1:1")


def test_a_turn_becomes_its_tool_calls_and_the_next_turn() -> None:
    """The canvas of a turn calls each tool the model asked for, gathers the notes, then plans again."""
    move = tasks.follow(STATE, reasoning.plan(DIAMETERS, []))
    text = json.dumps(move)
    used = {name: text.count(f"examples.assistant.tasks.{name}") for name in ("search", "gather", "plan_turn")}
    assert used == {"search": 2, "gather": 1, "plan_turn": 1}


def test_the_last_turn_is_a_state() -> None:
    """When the model is done, or has had all its turns, the state is final and holds all thoughts."""
    enough = {"thought": "I know enough.", "done": True, "calls": []}
    assert tasks.follow(STATE, enough) == {**STATE, "turn": 1, "thoughts": ["I know enough."]}
    late = {**STATE, "turn": tasks.LAST_TURN - 1}
    again = {"thought": "More!", "done": False, "calls": [{"tool": "search", "argument": "x"}]}
    assert tasks.follow(late, again) == {
        **STATE,
        "turn": tasks.LAST_TURN,
        "thoughts": ["More!"],
    }


def test_a_tool_that_does_not_exist_is_refused() -> None:
    """The model's answer is not trusted: an unknown tool is an error that lists the known ones."""
    plan = {"thought": "", "done": False, "calls": [{"tool": "shell", "argument": "ls"}]}
    with pytest.raises(ValueError, match="'shell'; there are calculate, search"):
        tasks.follow(STATE, plan)


def context(address: str) -> StepContext:
    return StepContext(run_id="r", workflow="assistant", address=address, attempt=1, seed=7, logical_time=0.0)


def test_a_turn_asks_the_model_and_records_its_answer(url: str) -> None:
    """The step becomes the canvas of the model's plan, and asks nobody when the plan is already recorded."""
    state = {**STATE, "base_url": url}
    asking = context("1.plan_turn")
    move = tasks.plan_turn(asking, state)
    assert move.canvas == tasks.follow(state, reasoning.plan(DIAMETERS, []))
    again = replace(asking, journal=EffectJournal(asking.journal.text(), is_replay=True))
    assert tasks.plan_turn(again, state).canvas == move.canvas
    assert get(f"{url}/stats") == {"/model/plan": {"answered": 1}}


def test_tools_bring_back_notes(url: str) -> None:
    """Each tool step returns what was asked and found; what cannot be calculated is a note too."""
    note = tasks.search(context("1.search"), url, "Titan")
    assert note == {"tool": "search", "asked": "Titan", "found": search("Titan")}
    assert tasks.calculate(context("2.calculate"), url, "6 / 4")["found"] == "1.5"
    assert tasks.calculate(context("3.calculate"), url, "6 / 0")["found"].startswith("refused: ")


def test_a_second_attempt_writes_no_second_page(url: str) -> None:
    """The steps at the end ask and write under the step's key, so that trying again changes nothing."""
    state = {**STATE, "base_url": url, "thoughts": ["I know enough."]}
    for _ in range(2):
        summary = tasks.summarise(context("2.summarise"), state)
        assert tasks.write_down(context("3.write_down"), summary, url) == summary
    assert len(get(f"{url}/notebook")["notes"]) == 1
    assert get(f"{url}/stats")["/model/summary"] == {"answered": 1, "repeated": 1}


def test_the_workflow_is_turns_summary_and_page() -> None:
    """The plan has three steps; the turns' tool calls come with the run."""
    canvas = app.assistant.canvas({"question": DIAMETERS, "base_url": "http://127.0.0.1:1"})
    plan = compile_canvas(canvas, app=app.app)
    assert [step.address for step in plan.steps] == ["1.plan_turn", "2.summarise", "3.write_down"]


def test_notes_are_gathered_in_the_order_of_the_calls() -> None:
    """New notes follow the old ones and keep the order of the model's calls."""
    notes: list[dict[str, Any]] = [{"tool": "search", "asked": name, "found": []} for name in ("a", "b", "c")]
    gathered = tasks.gather(notes[1:], {**STATE, "notes": notes[:1]})
    assert gathered == {**STATE, "notes": notes}
