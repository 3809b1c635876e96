"""KeyService: keys of the provider, for operators."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from vault.domain.types import Caller
from vault.keys.lookup_rotation import LookupProgress
from vault.keys.phases import Phase
from vault.keys.pipelines import KeyPipelines
from vault.keys.rekeying import Rekeyed
from vault.keys.rewrap_job import RewrapProgress, RewrapWish
from vault.keys.rotation import Rotated
from vault.keys.status import KeyState, KeyStates
from vault.recording import RecordedAt
from vault.server.blocking import BlockingWorker
from vault.server.convert import record_ref, timestamp
from vault.server.edge import Edge, progress, unary
from vault.server.steps import take_steps
from vault.v1 import key_service_pb2 as pb
from vault.v1 import key_service_pb2_grpc

PHASE_NUMBERS: Final[Mapping[Phase, Any]] = {
    phase: pb.RewrapPhase.Value(f"REWRAP_PHASE_{phase.name}") for phase in Phase
}


class KeyServicer(key_service_pb2_grpc.KeyServiceServicer):
    """State, rotation, rewrapping and rekeying."""

    def __init__(self, edge: Edge, keys: KeyPipelines, worker: BlockingWorker) -> None:
        """`worker` has one thread: jobs take their steps on it in turn, and the short calls between them."""
        self.edge = edge
        self._keys = keys
        self._worker = worker

    @unary
    async def GetKeyStatus(self, request: pb.GetKeyStatusRequest, caller: Caller) -> pb.GetKeyStatusResponse:
        found: tuple[KeyStates, RecordedAt] = await self._worker.run(
            partial(self._keys.status.status, caller)
        )
        states, recorded = found
        response = pb.GetKeyStatusResponse(
            provider=states.provider,
            healthy=states.health.healthy,
            detail=states.health.detail,
            keys=[_state(key) for key in states.keys],
            record=record_ref(recorded),
        )
        if states.health.token_seconds_left is not None:
            response.token_seconds_left = states.health.token_seconds_left
        return response

    @unary
    async def RotateKey(self, request: pb.RotateKeyRequest, caller: Caller) -> pb.RotateKeyResponse:
        rotated: Rotated = await self._worker.run(partial(self._keys.rotation.rotate, caller, request.key))
        return pb.RotateKeyResponse(
            name=rotated.name,
            version=rotated.version,
            verifier_key=rotated.verifier_key,
            record=record_ref(rotated.recorded),
        )

    @progress
    async def RewrapKeys(
        self, request: pb.RewrapKeysRequest, caller: Caller
    ) -> AsyncIterator[pb.RewrapKeysResponse]:
        wish = RewrapWish(request.key, request.dry_run, request.keys_per_second, request.keep_old_versions)
        steps = self._keys.rewrap.run(caller, wish)
        async with aclosing(take_steps(self.edge, self._worker, steps)) as told:
            async for each in told:
                yield _rewrapped(each)

    @progress
    async def RotateLookupKey(
        self, request: pb.RotateLookupKeyRequest, caller: Caller
    ) -> AsyncIterator[pb.RotateLookupKeyResponse]:
        steps = self._keys.lookup_rotation.run(
            caller,
            dry_run=request.dry_run,
            subjects_per_second=request.subjects_per_second,
            resume_only=request.resume_only,
        )
        async with aclosing(take_steps(self.edge, self._worker, steps)) as told:
            async for each in told:
                yield _indexed(each)

    @unary
    async def RekeySubject(self, request: pb.RekeySubjectRequest, caller: Caller) -> pb.RekeySubjectResponse:
        rekeyed: Rekeyed = await self._worker.run(
            partial(self._keys.rekey.rekey, caller, request.request_id, request.customer_number)
        )
        return pb.RekeySubjectResponse(
            values=rekeyed.values,
            key_classes=rekeyed.key_classes,
            rekeyed_at=timestamp(rekeyed.at),
            record=record_ref(rekeyed.recorded),
            replayed=rekeyed.replayed,
        )


def _state(key: KeyState) -> pb.KeyStatus:
    return pb.KeyStatus(
        name=key.name,
        kind=key.kind,
        latest_version=key.latest_version,
        min_decryption_version=key.min_decryption_version,
        versions=[
            pb.KeyVersionCount(version=version, wrapped=rows) for version, rows in key.versions.items()
        ],
        stragglers=key.stragglers,
        problem=key.problem,
    )


def _rewrapped(progress: RewrapProgress) -> pb.RewrapKeysResponse:
    return pb.RewrapKeysResponse(
        scanned=progress.scanned,
        rewrapped=progress.rewrapped,
        failed=progress.failed,
        total=progress.total,
        phase=PHASE_NUMBERS[progress.phase],
        stragglers=progress.stragglers,
        min_decryption_version=progress.min_decryption_version,
        record=record_ref(progress.recorded) if progress.recorded else None,
    )


def _indexed(progress: LookupProgress) -> pb.RotateLookupKeyResponse:
    return pb.RotateLookupKeyResponse(
        indexed=progress.indexed,
        total=progress.total,
        failed=progress.failed,
        version=progress.version,
        phase=PHASE_NUMBERS[progress.phase],
        record=record_ref(progress.recorded) if progress.recorded else None,
    )
