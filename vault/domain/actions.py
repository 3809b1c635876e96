"""What audit records say was done: every word that the field `action` can hold (audit.md)."""

from typing import Final

ACTIONS: Final = (
    "read",
    "write",
    "consent.record",
    "consent.withdraw",
    "consent.read",
    "subject.restrict",
    "subject.lift-restriction",
    "subject.object",
    "policy.explain",
    "policy.read",
    "audit.read",
    "log.adopt-restore",
    "log.reapply",
)
