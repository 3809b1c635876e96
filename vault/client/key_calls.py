"""Operators' calls: from arguments to calls of vault.v1 and back, pure functions that both clients share."""

from types import MappingProxyType
from typing import Any

from vault.client import methods
from vault.client.calls import Call
from vault.client.fields import message, new_request_id
from vault.client.jobs import Job
from vault.client.key_results import (
    KeysStatus,
    KeyStatus,
    LookupProgress,
    RekeyReceipt,
    RewrapProgress,
    RotatedKey,
)
from vault.client.values import read_timestamp
from vault.client.words import PHASES, Phase
from vault.v1 import key_service_pb2 as key


def key_status() -> Call[Any, Any, KeysStatus]:
    return Call(methods.GET_KEY_STATUS, methods.GET_KEY_STATUS.request(), _keys_status)


def rotate_key(name: str) -> Call[Any, Any, RotatedKey]:
    return Call(methods.ROTATE_KEY, message(methods.ROTATE_KEY.request, key=name), _rotated)


def rewrap_keys(
    name: str, *, dry_run: bool, keys_per_second: int, keep_old_versions: bool
) -> Job[Any, Any, RewrapProgress]:
    request = message(
        methods.REWRAP_KEYS.request,
        key=name,
        dry_run=dry_run,
        keys_per_second=keys_per_second,
        keep_old_versions=keep_old_versions,
    )
    return Job(methods.REWRAP_KEYS, request, _rewrap_progress, request)


def rotate_lookup_key(
    *, dry_run: bool, subjects_per_second: int, resume_only: bool
) -> Job[Any, Any, LookupProgress]:
    request = message(
        methods.ROTATE_LOOKUP_KEY.request,
        dry_run=dry_run,
        subjects_per_second=subjects_per_second,
        resume_only=resume_only,
    )
    again = message(
        methods.ROTATE_LOOKUP_KEY.request,
        dry_run=dry_run,
        subjects_per_second=subjects_per_second,
        # the rotation may have ended just when the stream broke: to ask as before would begin another one
        resume_only=True,
    )
    return Job(methods.ROTATE_LOOKUP_KEY, request, _lookup_progress, again)


def rekey_subject(customer_number: str, *, request_id: str | None) -> Call[Any, Any, RekeyReceipt]:
    request_id = new_request_id(request_id)
    request = message(methods.REKEY_SUBJECT.request, request_id=request_id, customer_number=customer_number)

    def read(answer: key.RekeySubjectResponse) -> RekeyReceipt:
        return RekeyReceipt(
            values=answer.values,
            key_classes=tuple(answer.key_classes),
            rekeyed_at=read_timestamp(answer.rekeyed_at) if answer.HasField("rekeyed_at") else None,
            replayed=answer.replayed,
            request_id=request_id,
            record_id=answer.record.record_id,
            position=answer.record.position,
        )

    return Call(methods.REKEY_SUBJECT, request, read)


def _keys_status(answer: key.GetKeyStatusResponse) -> KeysStatus:
    known = answer.HasField("token_seconds_left")
    return KeysStatus(
        provider=answer.provider,
        healthy=answer.healthy,
        detail=answer.detail,
        token_seconds_left=answer.token_seconds_left if known else None,
        keys=tuple(map(_key_status, answer.keys)),
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def _key_status(one: key.KeyStatus) -> KeyStatus:
    return KeyStatus(
        name=one.name,
        kind=one.kind,
        latest_version=one.latest_version,
        min_decryption_version=one.min_decryption_version,
        versions=MappingProxyType({each.version: each.wrapped for each in one.versions}),
        stragglers=one.stragglers,
        problem=one.problem,
    )


def _rotated(answer: key.RotateKeyResponse) -> RotatedKey:
    return RotatedKey(
        name=answer.name,
        version=answer.version,
        verifier_key=answer.verifier_key,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def _rewrap_progress(answer: key.RewrapKeysResponse) -> RewrapProgress:
    return RewrapProgress(
        phase=_phase(answer.phase),
        scanned=answer.scanned,
        rewrapped=answer.rewrapped,
        failed=answer.failed,
        total=answer.total,
        stragglers=answer.stragglers,
        min_decryption_version=answer.min_decryption_version,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def _lookup_progress(answer: key.RotateLookupKeyResponse) -> LookupProgress:
    return LookupProgress(
        phase=_phase(answer.phase),
        indexed=answer.indexed,
        total=answer.total,
        failed=answer.failed,
        version=answer.version,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def _phase(number: int) -> Phase:
    return PHASES.word(number) or Phase.UNRECOGNISED
