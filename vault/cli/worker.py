"""One worker of `datavault serve --workers N`. Not for people: its supervisor starts it."""

import os
import socket
import sys

from vault.cli.exits import ExitCode
from vault.cli.failures import code_of
from vault.cli.hints import next_step


def main(descriptor: int) -> int:
    """Serve as the supervisor at the other end of this socket says; returns the exit code."""
    # gRPC writes lines of its own, which are no JSON, and reads this when it is first imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from vault import logs, serving
    from vault.config import take_over
    from vault.domain.errors import ConfigurationError, DatavaultError, StartRefusedError
    from vault.workers.duty import Duty, first_message
    from vault.workers.messages import Failed, encode

    end = socket.socket(fileno=descriptor)
    start = first_message(end)
    if start is None:
        return ExitCode.FAILED
    logs.configure(worker=start.number)
    try:
        serving.serve_as_worker(take_over(start.settings), start.bundle, Duty(end))
    except DatavaultError as error:
        code = code_of(error)
        wrong = isinstance(error, ConfigurationError) and not isinstance(error, StartRefusedError)
        failed = Failed(error.message, next_step(str(error.reason)), int(code), passing=not wrong)
        end.sendall(encode(failed))
        return code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
