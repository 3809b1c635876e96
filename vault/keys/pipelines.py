"""What KeyService offers, wired together."""

from dataclasses import dataclass
from typing import Self

from vault.crypto.keyring import Keyring
from vault.domain.protocols import Clock, KeyProvider, Randomness, Transactions
from vault.enrolment import Enrolment
from vault.keys.log_rotation import LogKeyRotation
from vault.keys.lookup_rotation import LookupRotation
from vault.keys.rekeying import RekeyPipeline
from vault.keys.resealing import Resealer
from vault.keys.rewrapping import RewrapPipeline
from vault.keys.rotation import RotationPipeline
from vault.keys.status import KeyStatusPipeline
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.replay import Replays
from vault.store.key_rows import KeyRowRepository
from vault.store.rekeying import RekeyRepository
from vault.store.subjects import SubjectRepository


@dataclass(frozen=True, slots=True)
class KeyPipelines:
    """The pipelines of operators."""

    status: KeyStatusPipeline
    rotation: RotationPipeline
    rewrap: RewrapPipeline
    lookup_rotation: LookupRotation
    rekey: RekeyPipeline

    @classmethod
    def wire(
        cls,
        transactions: Transactions,
        provider: KeyProvider,
        subjects: SubjectRepository,
        replays: Replays,
        enrolment: Enrolment,
        keyring: Keyring,
        log_rotation: LogKeyRotation,
        lookup_rotation: LookupRotation,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
        randomness: Randomness,
    ) -> Self:
        """All of them over the same parts."""
        rows = KeyRowRepository()
        resealer = Resealer(keyring, clock, randomness)
        return cls(
            status=KeyStatusPipeline(transactions, rows, provider, policy, recorder),
            rotation=RotationPipeline(provider, policy, recorder, log_rotation),
            rewrap=RewrapPipeline(transactions, rows, provider, policy, recorder, clock),
            lookup_rotation=lookup_rotation,
            rekey=RekeyPipeline(
                transactions,
                subjects,
                RekeyRepository(),
                replays,
                enrolment,
                resealer,
                policy,
                recorder,
                clock,
            ),
        )
