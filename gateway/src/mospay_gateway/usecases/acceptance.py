"""Accept payments: batched into one statement, deduped by key and reference."""

import datetime as dt
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.batcher import Batcher
from mospay_shared.chassis.database import DATABASE_DOWN, Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.telemetry import current_traceparent
from mospay_shared.contracts import outgoing
from mospay_shared.ids import new_id

from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.drafts import Draft, Origin
from mospay_gateway.domain.errors import KeyReused, ReferenceReused, StillOpen
from mospay_gateway.domain.payments import Payment
from mospay_gateway.storage import acceptance as storage
from mospay_gateway.storage import payments
from mospay_gateway.storage.acceptance import Submission

log = structlog.get_logger()


class Acceptor:
    """Takes submissions one by one and commits them together.

    `check_after`: how long after acceptance the sweeper first asks for news of a payment.
    """

    def __init__(
        self,
        database: Database,
        relay: Relay,
        sealer: Sealer,
        *,
        limit: int,
        runners: int,
        check_after: dt.timedelta,
    ) -> None:
        self._database, self._relay, self._sealer = database, relay, sealer
        self._limit, self._runners, self._check_after = limit, runners, check_after
        self._batcher: Batcher[Submission, bool | Exception] | None = None
        self._open: set[object] = set()

    async def open(self) -> None:
        """Start the batcher (it needs the running loop)."""
        self._batcher = Batcher(self._run, limit=self._limit, runners=self._runners)

    async def close(self) -> None:
        """Commit what was submitted, then stop."""
        if self._batcher is not None:
            await self._batcher.close()

    def submission(
        self,
        draft: Draft,
        *,
        origin: Origin,
        operation: str,
        key: str | None,
        fingerprint: bytes,
        reference_hash: bytes,
        phone_hash: bytes | None,
    ) -> Submission:
        """Make a payment of a draft, seal its secrets, and write its two messages."""
        accepted_at, request_id = dt.datetime.now(dt.UTC), origin.request_id
        payment = draft.payment(new_id("pay"), origin, operation, accepted_at)
        secrets = self._sealer.seal(draft.secrets, payment.id) if draft.secrets else None
        traceparent = current_traceparent()
        command = outgoing(
            "payments.process.v1",
            payment.id,
            payment.command(secrets),
            source="gateway",
            correlation_id=request_id,
            traceparent=traceparent,
        )
        event = outgoing(
            "payment.accepted.v1",
            payment.id,
            payment.accepted_event(),
            source="gateway",
            correlation_id=request_id,
            traceparent=traceparent,
        )
        return Submission(
            payment,
            draft.own_fields,
            draft.daily(accepted_at, phone_hash),
            secrets,
            operation,
            key,
            fingerprint,
            reference_hash,
            (command, event),
        )

    async def submit(self, submission: Submission) -> bool:
        """Accept a payment; False says that an earlier request has its key or reference.

        Raises StillOpen while a request with the same key or reference is being accepted here,
        OverDailyLimit where the amount does not fit in what is left of the client's day, and what
        the database raised (nothing was accepted, or the same key will find it).
        """
        assert self._batcher is not None, "the acceptor is not open"
        payment = submission.payment
        claims: set[object] = {submission.reference_hash}
        if submission.key is not None:
            claims.add((payment.client_id, payment.mode, submission.operation, submission.key))
        if not self._open.isdisjoint(claims):
            raise StillOpen("The first request with this key or reference is still being accepted")
        self._open |= claims
        try:
            result = await self._batcher.submit(submission)
        finally:
            self._open -= claims
        if isinstance(result, Exception):
            raise result
        return result

    async def _run(self, submissions: Sequence[Submission]) -> Sequence[bool | Exception]:
        try:
            return await self._together(submissions)
        except DATABASE_DOWN:
            raise
        except Exception as error:
            log.warning("acceptance_rerun_singly", reason=repr(error)[:200], rows=len(submissions))
        results: list[bool | Exception] = []
        for one in submissions:
            results.append(await self._alone(one))
        return results

    async def _alone(self, submission: Submission) -> bool | Exception:
        for attempt in range(3):
            try:
                return (await self._together([submission]))[0]
            except DATABASE_DOWN as error:
                return error
            except Exception as error:
                if attempt == 2:
                    return error
        raise AssertionError("unreachable")

    async def _together(self, submissions: Sequence[Submission]) -> list[bool | Exception]:
        accepted = await storage.accept(self._database, submissions, self._check_after)
        self._relay.wake()
        return [
            False if s.payment.id not in accepted else accepted[s.payment.id] or True
            for s in submissions
        ]


async def earlier_payment(
    database: Database,
    caller: ClientApp,
    *,
    operation: str,
    key: str | None,
    fingerprint: bytes,
    reference_hash: bytes,
) -> Payment | None:
    """Return the payment of an earlier request with this key or reference and the same body.

    Raises KeyReused or ReferenceReused when it had another body; None when there was none.
    """
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        known = await storage.earlier(
            tx, caller.client_id, caller.mode, operation, key, reference_hash
        )
        by_key, by_reference = known.get("key"), known.get("reference")
        if by_key is not None and by_key.fingerprint != fingerprint:
            raise KeyReused(
                "This Idempotency-Key came before with another payload; use a fresh key"
            )
        found = by_key or by_reference
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise ReferenceReused(
                "This reference came before with another payload; a reference is used once"
            )
        payment = await payments.find(tx, found.payment_id)
    if payment is not None and key is not None and by_key is None:
        async with database.transaction() as tx:
            await storage.remember_key(
                tx, caller.client_id, caller.mode, operation, key, fingerprint, payment.id
            )
    return payment
