"""PolicyService: what the live policy decides, and why."""

from functools import partial

from vault.domain.limits import LIMITS
from vault.domain.types import Basis, Caller
from vault.operations import OperationsPipeline
from vault.policy.explain import Explanation
from vault.server.blocking import BlockingWorker
from vault.server.convert import FORM_NUMBERS, REASON_NUMBERS, max_form, record_ref, timestamp
from vault.server.edge import Edge, unary
from vault.v1 import policy_service_pb2 as pb
from vault.v1 import policy_service_pb2_grpc


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Explaining decisions and showing the bundle."""

    def __init__(
        self, edge: Edge, operations: OperationsPipeline, queries: BlockingWorker, engine: str
    ) -> None:
        self.edge = edge
        self._operations = operations
        self._queries = queries
        self._engine = engine

    @unary
    async def ExplainDecision(
        self, request: pb.ExplainDecisionRequest, caller: Caller
    ) -> pb.ExplainDecisionResponse:
        explanations, bundle_hash, recorded = await self._queries.run(
            partial(
                self._operations.explain,
                caller,
                request.caller,
                request.purpose,
                # one more than is allowed: too many are still noticed, and no list is copied whole
                tuple(request.attributes[: LIMITS.attributes_per_read + 1]),
                tuple(request.bases[: len(Basis) + 1]),
                max_form(request.max_form),
            )
        )
        return pb.ExplainDecisionResponse(
            explanations=[
                _explanation(name, one) for name, one in zip(request.attributes, explanations, strict=True)
            ],
            bundle_hash=bundle_hash,
            record=record_ref(recorded),
        )

    @unary
    async def GetBundle(self, request: pb.GetBundleRequest, caller: Caller) -> pb.GetBundleResponse:
        loaded, recorded = await self._queries.run(partial(self._operations.bundle, caller))
        return pb.GetBundleResponse(
            bundle_hash=loaded.bundle.hash,
            loaded_at=timestamp(loaded.loaded_at),
            files=dict(loaded.bundle.files) if request.include_files else None,
            engine=self._engine,
            record=record_ref(recorded),
        )


def _explanation(attribute: str, one: Explanation) -> pb.Explanation:
    message = pb.Explanation(
        attribute=attribute,
        rule=one.decision.rule,
        rules=[
            pb.MatchingRule(
                id=match.rule.id,
                line=match.rule.line,
                effect=match.rule.effect,
                act=match.rule.act,
                basis=match.rule.basis,
                basis_holds=match.holds,
            )
            for match in one.matches
        ],
        wanted_bases=sorted(one.decision.wanted),
        text="\n".join(one.lines),
    )
    if one.decision.form:
        message.form = FORM_NUMBERS[one.decision.form]
    if one.decision.reason:
        message.reason = REASON_NUMBERS[one.decision.reason]
    return message
