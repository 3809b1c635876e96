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
    "subject.erase",
    "subject.erase-preview",
    "subject.retention",
    "subject.history",
    "subject.rekey",
    "keys.read",
    "keys.rotate",
    "keys.rotate-lookup",
    "keys.rewrap",
    "policy.explain",
    "policy.read",
    "audit.read",
    "log.key",
    "log.part",
    "log.adopt-restore",
    "log.reapply",
)
