"""Errors: one tree, stable codes, and facts that survive a trip between processes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator

import pytest

from aos_workflow import errors
from aos_workflow.errors import AosError, BadOption, StepFailed, StoreUnavailable, UnknownWorkflow, WaitTimeout

LINE = re.compile(r"^ {4}(?P<branch>(?:[│ ] {3})*(?:[├└]── )?)(?P<name>[A-Z]\w+)(?P<text>.*)$")


def tree(cls: type[AosError] = AosError) -> Iterator[type[AosError]]:
    """The class and all that this package derives from it in the errors room."""
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = sorted(tree(), key=lambda cls: cls.__name__)
EVIDENCE = {"run_id": "r-1", "sizes": [1, 2], "error": {"type": "ValueError"}}


def drawn() -> dict[str, tuple[str | None, str]]:
    """What the docstring draws: name -> (parent's name, the words behind it)."""
    found: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match:
            depth = len(match["branch"]) // 4
            above[depth:] = [match["name"]]
            found[match["name"]] = (above[depth - 1] if depth else None, match["text"])
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """The drawing at the top of the room names every error, each under the class it derives from."""
    real = {cls.__name__: cls.__base__.__name__ for cls in CLASSES if cls is not AosError and cls.__base__}
    assert {"AosError": None} | real == {name: parent for name, (parent, _) in drawn().items()}


def test_the_drawing_marks_what_is_retryable() -> None:
    """The drawing says (retryable) of exactly the errors whose call would work later."""
    assert {cls.__name__ for cls in CLASSES if cls.retryable} == {
        name for name, (_, text) in drawn().items() if "(retryable)" in text
    }


def test_every_error_has_a_code_of_its_own() -> None:
    """Codes are for programs: upper case, and no two errors share one."""
    codes = [cls.__dict__["code"] for cls in CLASSES]
    assert sorted(set(codes)) == sorted(codes)
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code) for code in codes)


def test_codes_are_stable() -> None:
    """Programs depend on the codes, so a code that changes breaks this list first."""
    assert {
        "AosError": "AOS_ERROR",
        "BadArguments": "ARGUMENTS_INVALID",
        "BadOption": "OPTION_INVALID",
        "CheckpointMissing": "CHECKPOINT_MISSING",
        "DefinitionError": "DEFINITION_INVALID",
        "EmbeddedUnavailable": "EMBEDDED_UNAVAILABLE",
        "FenceLost": "FENCE_LOST",
        "IdempotencyConflict": "IDEMPOTENCY_CONFLICT",
        "NotCanonical": "VALUE_NOT_CANONICAL",
        "PayloadTooLarge": "PAYLOAD_TOO_LARGE",
        "RunCancelled": "RUN_CANCELLED",
        "RunError": "RUN_ERROR",
        "RunFailed": "RUN_FAILED",
        "RunNotFinished": "RUN_NOT_FINISHED",
        "RunNotFound": "RUN_NOT_FOUND",
        "SchemaMismatch": "SCHEMA_MISMATCH",
        "SettingsError": "SETTINGS_INVALID",
        "StepError": "STEP_ERROR",
        "StepFailed": "STEP_FAILED",
        "StepPoisoned": "STEP_POISONED",
        "StepTimeout": "STEP_TIMEOUT",
        "StoreError": "STORE_ERROR",
        "StoreUnavailable": "STORE_UNAVAILABLE",
        "UnknownTask": "TASK_UNKNOWN",
        "UnknownWorkflow": "WORKFLOW_UNKNOWN",
        "UnsupportedCanvas": "CANVAS_UNSUPPORTED",
        "VersionMismatch": "VERSION_MISMATCH",
        "WaitTimeout": "WAIT_TIMEOUT",
    }.items() <= {cls.__name__: cls.code for cls in CLASSES}.items()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_being_rebuilt(cls: type[AosError]) -> None:
    """Rebuilding an error as another process would (``__reduce__``) keeps type, message, fix and evidence."""
    error = cls("it broke", fix="mend it", **EVIDENCE)
    twin = copy.copy(error)
    assert (cls, "it broke", "mend it", EVIDENCE) == (type(twin), twin.message, twin.fix, twin.evidence)
    assert str(error) == str(twin)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_is_one_json_object(cls: type[AosError]) -> None:
    """``as_json`` holds code, message, fix, retryable and evidence, and survives JSON."""
    document = cls("it broke", fix="mend it", **EVIDENCE).as_json()
    expected = {
        "code": cls.code,
        "message": "it broke",
        "fix": "mend it",
        "retryable": cls.retryable,
        "evidence": EVIDENCE,
    }
    assert expected == document == json.loads(json.dumps(document))


def test_the_text_says_what_and_what_to_do() -> None:
    """The text of an error is its message, and after a semicolon the fix if there is one."""
    assert str(BadOption("cost=-1 is not valid", fix="give 0 or more")) == "cost=-1 is not valid; give 0 or more"
    assert str(BadOption("cost=-1 is not valid")) == "cost=-1 is not valid"


def test_an_error_needs_no_facts() -> None:
    """An error without fix and evidence has an empty fix and no evidence."""
    error = StepFailed("it broke")
    assert (error.fix, error.evidence) == ("", {})


def test_a_branch_catches_its_leaves() -> None:
    """Whoever catches a branch of the tree catches every error under it."""
    caught = {AosError: 0, errors.DefinitionError: 0, errors.StoreError: 0, errors.RunError: 0}
    for error in (UnknownWorkflow("w"), StoreUnavailable("s"), WaitTimeout("t")):
        for branch in caught:
            caught[branch] += isinstance(error, branch)
    assert {AosError: 3, errors.DefinitionError: 1, errors.StoreError: 1, errors.RunError: 1} == caught


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_what_it_means(cls: type[AosError]) -> None:
    """Every class explains itself in its own docstring."""
    assert cls.__dict__["__doc__"].strip().endswith(".") or ";" in cls.__dict__["__doc__"]
