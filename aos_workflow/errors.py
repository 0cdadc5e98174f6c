"""Every error this package raises on purpose.

    AosError
    ├── DefinitionError            the caller's input; nothing was written
    │   ├── UnsupportedCanvas      a node that cannot become a step
    │   ├── UnknownTask            a signature names a task no app has
    │   ├── BadArguments           a step's arguments do not fit its function
    │   ├── BadOption              an option that is unknown or out of range
    │   ├── UnknownWorkflow        no workflow of that name is registered
    │   ├── NotCanonical           a value that has no canonical form
    │   ├── PayloadTooLarge        inputs, plan or output over the limit
    │   └── IdempotencyConflict    one key, two different requests
    ├── SettingsError              a setting that is missing or malformed
    ├── StoreError                 the database
    │   ├── StoreUnavailable       it cannot be reached (retryable)
    │   ├── SchemaMismatch         its schema is not the one this code speaks
    │   ├── RunNotFound            no such run
    │   ├── CheckpointMissing      a checkpoint the plan needs is not there
    │   ├── VersionMismatch        a stored document of another format version
    │   └── FenceLost              a later attempt took this step over
    ├── RunError                   how a run ended
    │   ├── RunFailed              a step failed for good
    │   ├── RunCancelled           somebody cancelled it
    │   ├── RunNotFinished         its output was asked for too early (retryable)
    │   └── WaitTimeout            it is still going (retryable)
    ├── StepError                  how a step ended
    │   ├── StepFailed             its body raised
    │   ├── StepTimeout            it ran longer than its ``timeout_s`` (retryable)
    │   ├── StepPoisoned           it killed its worker too often
    │   └── UndeclaredEffect       a sealed replay wanted something from outside that was not recorded
    ├── GoldenError                a golden file
    │   ├── GoldenInvalid          its verdict is not VALID
    │   ├── GoldenUnreadable       a version or a task of it that this code does not have
    │   ├── GoldenKeyMissing       no key to sign or verify with
    │   └── GoldenNotWritten       the file or the ledger could not be written (retryable)
    ├── ReplayProcessLost          the process that replayed died or was too slow (retryable)
    └── EmbeddedUnavailable        the embedded servers cannot be started here

Each carries ``code`` (stable, for programs), ``retryable`` (would the same call
work later?), ``fix`` (what to do, in words) and ``evidence`` (the facts, JSON types).
"""

from __future__ import annotations

from typing import Any, ClassVar


class AosError(Exception):
    """Base of all errors raised on purpose; the message says what was wrong and where."""

    code: ClassVar[str] = "AOS_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, fix: str = "", **evidence: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.evidence: dict[str, Any] = evidence

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the class with ``args`` only and would drop fix and evidence.
        return (_rebuild, (type(self), self.message, self.fix, self.evidence))

    def as_json(self) -> dict[str, Any]:
        """The error as one JSON object: code, message, fix, retryable, evidence."""
        return {
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "retryable": self.retryable,
            "evidence": self.evidence,
        }


def _rebuild(cls: type[AosError], message: str, fix: str, evidence: dict[str, Any]) -> AosError:
    return cls(message, fix=fix, **evidence)


class DefinitionError(AosError):
    """The caller's input is wrong; nothing was written."""

    code = "DEFINITION_INVALID"


class UnsupportedCanvas(DefinitionError):
    """A canvas node that cannot become a step; the message names the node."""

    code = "CANVAS_UNSUPPORTED"


class UnknownTask(DefinitionError):
    """A signature names a task that the app does not have."""

    code = "TASK_UNKNOWN"


class BadArguments(DefinitionError):
    """A step's arguments do not fit its function's parameters."""

    code = "ARGUMENTS_INVALID"


class BadOption(DefinitionError):
    """An option that is unknown, of the wrong type or out of range."""

    code = "OPTION_INVALID"


class UnknownWorkflow(DefinitionError):
    """No workflow of that name is registered; the message lists those that are."""

    code = "WORKFLOW_UNKNOWN"


class NotCanonical(DefinitionError):
    """A value without a canonical form; the message names its path and type."""

    code = "VALUE_NOT_CANONICAL"


class PayloadTooLarge(DefinitionError):
    """Inputs, plan or output are larger than the limit; the message names both sizes."""

    code = "PAYLOAD_TOO_LARGE"


class IdempotencyConflict(DefinitionError):
    """The idempotency key belongs to a run with other inputs, seed or plan."""

    code = "IDEMPOTENCY_CONFLICT"


class SettingsError(AosError):
    """A setting is missing or malformed; the message names the variable."""

    code = "SETTINGS_INVALID"


class StoreError(AosError):
    """The database could not do what was asked."""

    code = "STORE_ERROR"


class StoreUnavailable(StoreError):
    """The database cannot be reached."""

    code = "STORE_UNAVAILABLE"
    retryable = True


class SchemaMismatch(StoreError):
    """The database's schema is not the one this code speaks."""

    code = "SCHEMA_MISMATCH"


class RunNotFound(StoreError):
    """No run has this id."""

    code = "RUN_NOT_FOUND"


class CheckpointMissing(StoreError):
    """A checkpoint that the plan needs is not in the database."""

    code = "CHECKPOINT_MISSING"


class VersionMismatch(StoreError):
    """A stored document has a format version this code does not read."""

    code = "VERSION_MISMATCH"


class FenceLost(StoreError):
    """A later attempt took this step over; nothing of this attempt was written."""

    code = "FENCE_LOST"


class RunError(AosError):
    """How a run ended, for callers who asked for its output."""

    code = "RUN_ERROR"


class RunFailed(RunError):
    """A step failed for good."""

    code = "RUN_FAILED"


class RunCancelled(RunError):
    """Somebody cancelled the run."""

    code = "RUN_CANCELLED"


class RunNotFinished(RunError):
    """The run has no output yet."""

    code = "RUN_NOT_FINISHED"
    retryable = True


class WaitTimeout(RunError):
    """The run is still going; waiting longer may help."""

    code = "WAIT_TIMEOUT"
    retryable = True


class StepError(AosError):
    """How a step ended."""

    code = "STEP_ERROR"


class StepFailed(StepError):
    """The step's body raised; evidence holds type, message and traceback."""

    code = "STEP_FAILED"


class StepTimeout(StepError):
    """The step ran longer than its ``timeout_s``."""

    code = "STEP_TIMEOUT"
    retryable = True


class StepPoisoned(StepError):
    """The step killed its worker ``max_attempts`` times."""

    code = "STEP_POISONED"


class UndeclaredEffect(StepError):
    """A sealed replay wanted something from outside that was not recorded; nothing was done."""

    code = "EFFECT_UNDECLARED"


class GoldenError(AosError):
    """A golden file."""

    code = "GOLDEN_ERROR"


class GoldenInvalid(GoldenError):
    """The file's verdict is not VALID; evidence holds verdict and path."""

    code = "GOLDEN_INVALID"


class GoldenUnreadable(GoldenError):
    """The golden is of a version, or names a task, that this code does not have."""

    code = "GOLDEN_UNREADABLE"


class GoldenKeyMissing(GoldenError):
    """There is no key to sign or to verify goldens with."""

    code = "GOLDEN_KEY_MISSING"


class GoldenNotWritten(GoldenError):
    """A golden or its ledger entry could not be written; the run itself is not affected."""

    code = "GOLDEN_NOT_WRITTEN"
    retryable = True


class ReplayProcessLost(AosError):
    """The process that replayed died or did not answer in time."""

    code = "REPLAY_PROCESS_LOST"
    retryable = True


class EmbeddedUnavailable(AosError):
    """The embedded servers cannot be started on this machine."""

    code = "EMBEDDED_UNAVAILABLE"
