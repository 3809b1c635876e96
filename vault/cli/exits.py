"""Exit codes of `datavault`, and the errors that end a command with one of them."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    POLICY_DOES_NOT_COMPILE = 3
    POLICY_TEST_FAILED = 4
    VERIFICATION_FAILED = 5
    WORKERS_FAILED = 6
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the operation failed, or rows were rejected",
    ExitCode.USAGE: "wrong usage or configuration",
    ExitCode.POLICY_DOES_NOT_COMPILE: "the policy files do not compile",
    ExitCode.POLICY_TEST_FAILED: "a policy test failed",
    ExitCode.VERIFICATION_FAILED: "verification failed",
    ExitCode.WORKERS_FAILED: "the service ended because its workers went on ending",
    ExitCode.INTERRUPTED: "interrupted",
}


class CommandError(Exception):
    """Ends a command: `message` for the user, `hint` says what to do next, never a value."""

    def __init__(self, message: str, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
