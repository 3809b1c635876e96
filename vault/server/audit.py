"""AuditService: the log, for auditors."""

from functools import partial
from typing import Final

from vault.audit.query import AuditQuery
from vault.audit.record import encode
from vault.domain.types import Caller
from vault.operations import OperationsPipeline
from vault.server.blocking import BlockingWorker
from vault.server.convert import microseconds, record_ref
from vault.server.edge import Edge, unary
from vault.v1 import audit_service_pb2 as pb
from vault.v1 import audit_service_pb2_grpc

_DEFAULT_PAGE: Final = 100


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Querying records and showing checkpoints."""

    def __init__(self, edge: Edge, operations: OperationsPipeline, queries: BlockingWorker) -> None:
        self.edge = edge
        self._operations = operations
        self._queries = queries

    @unary
    async def QueryRecords(self, request: pb.QueryRecordsRequest, caller: Caller) -> pb.QueryRecordsResponse:
        wanted = AuditQuery(
            tenant=caller.tenant,
            since=microseconds(request.start_time, "start_time") if request.HasField("start_time") else 0,
            until=microseconds(request.end_time, "end_time") if request.HasField("end_time") else 0,
            caller=request.caller,
            purpose=request.purpose,
            attribute=request.attribute,
            outcome=request.outcome,
            action=request.action,
            page_size=request.page_size or _DEFAULT_PAGE,
            page_token=request.page_token,
            newest_first=request.newest_first,
        )
        page, recorded = await self._queries.run(
            partial(self._operations.query, caller, wanted, request.customer_number)
        )
        return pb.QueryRecordsResponse(
            records=[
                pb.LogRecord(position=found.index, entry=encode(found.record), log=found.origin)
                for found in page.records
            ],
            next_page_token=page.next_page_token,
            record=record_ref(recorded),
        )

    @unary
    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, caller: Caller
    ) -> pb.GetCheckpointResponse:
        head, recorded = await self._queries.run(partial(self._operations.log_head, caller))
        return pb.GetCheckpointResponse(
            checkpoint=head.checkpoint,
            verifier_key=head.verifier_key,
            size=head.size,
            record=record_ref(recorded),
        )
