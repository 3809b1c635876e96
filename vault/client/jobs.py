"""Long jobs of the server that a client starts and watches."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, Self, TypeVar

from vault.client.key_results import LookupProgress, RewrapProgress
from vault.client.methods import A, Method, Q

J = TypeVar("J", RewrapProgress, LookupProgress)


@dataclass(frozen=True, slots=True)
class Job(Generic[Q, A, J]):
    """A call that starts a job and watches it, and how to read its answers.

    `again` is what to ask for when the stream broke after the job had begun.
    """

    method: Method[Q, A]
    request: Q = field(repr=False)
    parse: Callable[[A], J]
    again: Q = field(repr=False)

    def resumed(self) -> Self:
        """The call that goes on with the job."""
        return replace(self, request=self.again)
