"""The named fault points: what a rule says, when it fires, and that nothing fires by accident."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aos_workflow import faults
from aos_workflow.errors import SettingsError
from aos_workflow.faults import InjectedFault, Rule, fault, install, parsed
from aos_workflow.settings import Settings


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    install("")


def outcomes(point: str, times: int, address: str = "2.score") -> list[bool]:
    """For each of so many hits: did it raise?"""

    def hit() -> bool:
        try:
            fault(point, address)
        except InjectedFault:
            return True
        return False

    return [hit() for _ in range(times)]


def test_without_rules_nothing_happens() -> None:
    """A process that was not armed passes every point."""
    assert not any(outcomes(point, 1)[0] for point in faults.POINTS)


def test_the_nth_hit_of_a_process() -> None:
    """@3 means the third hit, and no other."""
    install("after_claim:raise@3")
    assert outcomes("after_claim", 5) == [False, False, True, False, False]
    assert outcomes("in_body", 5) == [False] * 5


@pytest.mark.parametrize(
    ("at", "address", "fires"),
    [
        ("2.score", "2.score", True),
        ("score", "2.score", True),
        ("score", "1.loop/2.score", True),
        ("2.score", "12.score", False),
        ("score", "2.scores", False),
    ],
)
def test_at_an_address_or_a_name(at: str, address: str, fires: bool) -> None:
    """at= means one address, or every step of that name."""
    install(f"*:raise,at={at}")
    assert outcomes("before_commit", 1, address) == [fires]


def test_once_in_all_processes(tmp_path: Path) -> None:
    """With a marker a rule fires once, also if it is armed again."""
    rule = f"received:raise,once={tmp_path / 'marker'}"
    install(rule)
    assert outcomes("received", 2) == [True, False]
    install(rule)
    assert outcomes("received", 2) == [False, False]


def test_chance_is_drawn_from_the_seed() -> None:
    """The same seed draws the same hits in one process; about so many of them."""
    install("*:raise,p=0.25,seed=17")
    first = outcomes("in_body", 400)
    install("*:raise,p=0.25,seed=17")
    assert outcomes("in_body", 400) == first
    assert 50 < sum(first) < 150


def test_several_rules() -> None:
    """Rules are joined by semicolons, and each counts for itself."""
    install("received:raise@1; in_body:raise@2 ;")
    assert outcomes("received", 2) == [True, False]
    assert outcomes("in_body", 2) == [False, True]


def test_what_fired_is_written_down_first(tmp_path: Path) -> None:
    """The log holds the fault although its process died of it."""
    log = tmp_path / "faults.jsonl"
    program = "from aos_workflow.assembly import runtime; from aos_workflow.faults import fault\n"
    program += "runtime(); fault('in_body', '1.a'); fault('in_body', '2.b'); print('alive')"
    variables = {"AOS_FAULTS": "in_body:kill9@2", "AOS_FAULT_LOG": str(log), "AOS_TESTING": "1"}
    died = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, check=False
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, b"")
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["point"], line["address"], line["action"], line["hit"]) == ("in_body", "2.b", "kill9", 2)


def test_a_stopped_process_goes_on_after_its_time() -> None:
    """stop=0.1s stops the process, and something outside of it lets it go on."""
    program = (
        "from aos_workflow.faults import fault, install; install('in_body:stop=0.1s'); fault('in_body'); print('on')"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert child.communicate(timeout=20)[0] == b"on\n"


def test_a_rule_says_what_it_says() -> None:
    """Every part of the grammar is understood."""
    (rule,) = parsed("after_commit:stop=7s@3,at=score,once=/tmp/m,p=0.5,seed=9")
    assert rule == Rule(
        point="after_commit", action="stop", stop_s=7, nth=3, at="score", once=Path("/tmp/m"), chance=0.5, seed=9
    )


@pytest.mark.parametrize(
    "text",
    [
        "in_body",
        "in_body:",
        "nowhere:raise",
        "in_body:explode",
        "in_body:raise@x",
        "in_body:raise,when=2",
        "in_body:stop=soon",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    """A rule that cannot be read is an error that shows it, not a rule that never fires."""
    with pytest.raises(SettingsError) as refused:
        install(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("testing", ["", "0", "true"])
def test_faults_outside_of_a_test_are_refused(testing: str) -> None:
    """AOS_FAULTS is an error unless AOS_TESTING is 1."""
    with pytest.raises(SettingsError, match="AOS_FAULTS is set outside of a test"):
        Settings.from_environment({"AOS_FAULTS": "in_body:raise", "AOS_TESTING": testing})
