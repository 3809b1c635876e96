"""RightsService: what customers can demand under GDPR and CCPA."""

from functools import partial

from vault.consents import ConsentOutcome, ConsentWrite
from vault.domain.types import Caller, ConsentState
from vault.erasing.erasure import ErasurePipeline
from vault.erasing.evidence import EvidencePipeline
from vault.erasing.receipts import Erasure, ErasureOutcome
from vault.erasing.retaining import RetentionChange, RetentionPipeline
from vault.erasing.retention import Retained
from vault.rights import RightsPipeline
from vault.server.blocking import BlockingWorker
from vault.server.consent import consent_token, effective_purposes
from vault.server.convert import record_ref, timestamp
from vault.server.edge import Edge, unary
from vault.v1 import rights_service_pb2 as pb
from vault.v1 import rights_service_pb2_grpc


class RightsServicer(rights_service_pb2_grpc.RightsServiceServicer):
    """Restriction and objection, erasure and what it leaves.

    `changes` carries what needs no key; `erasures` what waits for the KMS, behind which no restriction may
    stand.
    """

    def __init__(
        self,
        edge: Edge,
        rights: RightsPipeline,
        erasure: ErasurePipeline,
        retention: RetentionPipeline,
        evidence: EvidencePipeline,
        changes: BlockingWorker,
        erasures: BlockingWorker,
    ) -> None:
        self.edge = edge
        self._rights = rights
        self._erasure = erasure
        self._retention = retention
        self._evidence = evidence
        self._changes = changes
        self._erasures = erasures

    @unary
    async def RestrictSubject(
        self, request: pb.RestrictSubjectRequest, caller: Caller
    ) -> pb.RestrictSubjectResponse:
        outcome = await self._restrict(caller, request.request_id, request.customer_number, lift=False)
        return pb.RestrictSubjectResponse(token=consent_token(outcome.token), replayed=outcome.replayed)

    @unary
    async def LiftRestriction(
        self, request: pb.LiftRestrictionRequest, caller: Caller
    ) -> pb.LiftRestrictionResponse:
        outcome = await self._restrict(caller, request.request_id, request.customer_number, lift=True)
        return pb.LiftRestrictionResponse(token=consent_token(outcome.token), replayed=outcome.replayed)

    @unary
    async def ObjectToPurpose(
        self, request: pb.ObjectToPurposeRequest, caller: Caller
    ) -> pb.ObjectToPurposeResponse:
        write = ConsentWrite(
            request_id=request.request_id,
            customer_number=request.customer_number,
            purpose=request.purpose,
            state=ConsentState.OBJECTION_LIFTED if request.lift else ConsentState.OBJECTED,
            channel=request.channel,
            evidence=request.evidence,
        )
        outcome = await self._changes.run(partial(self._rights.object_to_purpose, caller, write))
        return pb.ObjectToPurposeResponse(
            token=consent_token(outcome.token),
            effective=effective_purposes(outcome.effective),
            replayed=outcome.replayed,
        )

    @unary
    async def EraseSubject(self, request: pb.EraseSubjectRequest, caller: Caller) -> pb.EraseSubjectResponse:
        asked = Erasure(request.request_id, request.customer_number, request.dry_run, request.scrub)
        outcome = await self._erasures.run(partial(self._erasure.erase, caller, asked))
        return _erased(outcome)

    @unary
    async def SetRetention(self, request: pb.SetRetentionRequest, caller: Caller) -> pb.SetRetentionResponse:
        chosen = request.WhichOneof("change")
        change = RetentionChange(
            request.request_id,
            request.customer_number,
            request.relationship_ended_on if chosen == "relationship_ended_on" else None,
            request.legal_hold if chosen == "legal_hold" else None,
        )
        outcome = await self._changes.run(partial(self._retention.set, caller, change))
        return pb.SetRetentionResponse(
            relationship_ended_on=outcome.ended_on.isoformat() if outcome.ended_on else "",
            legal_hold=outcome.hold,
            record=record_ref(outcome.recorded),
            replayed=outcome.replayed,
        )

    @unary
    async def GetErasureEvidence(
        self, request: pb.GetErasureEvidenceRequest, caller: Caller
    ) -> pb.GetErasureEvidenceResponse:
        found = await self._erasures.run(partial(self._evidence.open, caller, request.receipt_id))
        return pb.GetErasureEvidenceResponse(
            evidence=found.document,
            kept_until=timestamp(found.kept_until),
            record=record_ref(found.recorded),
        )

    async def _restrict(
        self, caller: Caller, request_id: str, customer_number: str, *, lift: bool
    ) -> ConsentOutcome:
        outcome: ConsentOutcome = await self._changes.run(
            partial(self._rights.restrict, caller, request_id, customer_number, lift=lift)
        )
        return outcome


def _erased(outcome: ErasureOutcome) -> pb.EraseSubjectResponse:
    message = pb.EraseSubjectResponse(
        erased=outcome.erased,
        retained=[_retained(one) for one in outcome.retained],
        whole=outcome.whole,
        scrubbed=outcome.scrubbed,
        scrub_problem=outcome.scrub_problem,
        record=record_ref(outcome.recorded),
        replayed=outcome.replayed,
    )
    if outcome.receipt is not None and outcome.signature is not None:
        message.receipt_id = outcome.receipt.id
        message.receipt = outcome.receipt.raw
        message.signature = outcome.signature.signature
        message.public_key = outcome.signature.public_key
    return message


def _retained(one: Retained) -> pb.RetainedClass:
    message = pb.RetainedClass(
        key_class=one.key_class, ground=one.ground, legal_hold=one.legal_hold, purposes=one.purposes
    )
    if one.ends_at is not None:
        message.ends_at.CopyFrom(timestamp(one.ends_at))
    return message
