"""Every hard limit, in one place, units in the names (api.md, "Limits")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold for every call. The defaults are the published ones."""

    message_bytes: int = 4 * 1024 * 1024
    attributes_per_read: int = 256
    attributes_per_write: int = 256
    subjects_per_chunk: int = 1_000
    value_bytes: int = 64 * 1024
    customer_number_bytes: int = 256
    name_characters: int = 64
    request_id_characters: int = 64
    record_bytes: int = 49_146
    error_details_bytes: int = 4 * 1024
    error_violations: int = 20
    audit_page_records: int = 1_000
    policy_compare_seconds: float = 2.0
    """How long a bundle's engine is compared with Casbin before it decides anything."""

    group_reads: int = 256
    group_milliseconds: float = 20.0
    queued_reads: int = 4_096
    queued_seconds: float = 0.1
    """How long a single read may be expected to wait for its group; one that would wait longer is refused."""
    queued_changes: int = 1_024
    concurrent_calls: int = 8_192
    streams_per_caller: int = 8
    stream_answer_bytes: int = 64 * 1024 * 1024
    """What answers of one batch read may take while they are made or wait to be sent, each counted as the
    largest that its question can have: a reader that stops reading holds no more."""
    batch_answer_bytes: int = 256 * 1024 * 1024
    """The same over all batch reads of a process. A stream that holds nothing may begin one read besides."""
    batch_message_bytes: int = 1024 * 1024
    """A message of a batch answer is sent once it has this size; one answer alone may be larger."""

    default_deadline_seconds: float = 10.0
    longest_deadline_seconds: float = 60.0
    shortest_useful_deadline_seconds: float = 0.002
    stream_deadline_seconds: float = 3_600.0
    retry_after_seconds: float = 0.5
    longest_retry_after_seconds: float = 15.0
    drain_seconds: float = 20.0
    append_stuck_seconds: float = 5.0

    dek_cache_seconds: float = 60.0
    dek_cache_entries: int = 100_000
    request_kept_days: int = 7


LIMITS = Limits()
