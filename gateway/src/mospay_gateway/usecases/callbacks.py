"""Callbacks of providers: written down with their command, before anyone believes them."""

import base64

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.telemetry import current_traceparent
from mospay_shared.contracts import PaymentCallbackV1, outgoing

from mospay_gateway.storage import callbacks
from mospay_gateway.storage.callbacks import Callback


async def keep_callback(
    database: Database, relay: Relay, callback: Callback, request_id: str
) -> None:
    """Store a callback raw and hand it to the router by the outbox, in one transaction."""
    command = outgoing(
        "payments.callback.v1",
        callback.id,
        PaymentCallbackV1(
            callback_id=callback.id,
            service_id=callback.service_id,
            microservice=callback.microservice,
            mode=None,
            method=callback.method,
            headers=callback.headers,
            body_base64=base64.b64encode(callback.body).decode(),
            received_at=callback.received_at,
        ),
        source="gateway",
        correlation_id=request_id,
        traceparent=current_traceparent(),
    )
    async with database.transaction() as tx:
        await callbacks.store(tx, callback)
        await relay.enqueue(tx, [command])
