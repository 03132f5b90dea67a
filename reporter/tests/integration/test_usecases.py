"""Whatever order and however often news arrives: the same facts, the same rollups."""

import asyncio
import datetime as dt
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mospay_reporter.app import create_service
from mospay_reporter.settings import ReporterSettings
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from ..samples import entry, later, payment, queue_of, tell
from .books import assert_rollups_are_true, facts, rollups

Batches = list[list[Any]]
STATES = ("processing", "unknown", "requires_customer_action", "failed", "succeeded", "conflicted")


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Any], Batches]:
    """What happened to a few payments of one client, and one way in which it is told."""
    client = new_id("cli")
    base = dt.datetime.now(dt.UTC)
    told: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        minutes = draw(st.integers(0, 120))
        first = payment(
            client_id=client,
            version=0,
            accepted_at=base - dt.timedelta(minutes=minutes),
            amount_minor=draw(st.integers(0, 10_000)),
            currency=draw(st.sampled_from(["RWF", "USD"])),
            service=draw(st.sampled_from(["collection", "cards"])),
        )
        history = [first]
        for version in range(1, draw(st.integers(1, 4))):
            # versions may repeat: then the newest instant decides, the same way every time
            number = draw(st.sampled_from([version, max(1, version - 1)]))
            history.append(
                later(
                    first,
                    draw(st.sampled_from(STATES)),
                    number,
                    occurred_at=first.accepted_at + dt.timedelta(seconds=version),
                )
            )
        told += history
        for kind in draw(st.lists(st.sampled_from(["capture", "second_capture"]), max_size=2)):
            told.append(entry(first, draw(st.integers(0, 50)), kind=kind))
    order = draw(st.permutations(told + draw(st.lists(st.sampled_from(told), max_size=4))))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=3)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return told, [batch for batch in batches if batch]


def as_told_to(body: Any, client_id: str, prefix: str) -> Any:
    """The same message about the same payment of another client."""
    changes = {"client_id": client_id, "payment_id": prefix + body.payment_id}
    return type(body)(**(body.model_dump() | changes))


@given(stories())
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_and_repetition_ends_as_if_told_once_in_order(
    settings: ReporterSettings, story: tuple[list[Any], Batches]
) -> None:
    told, batches = story

    async def run() -> None:
        service = create_service(settings)
        await service.database.open()
        try:
            straight = new_id("cli")
            # the other client's payments: same months, ids that differ in their prefix alone
            payments = [body for body in told if isinstance(body, PaymentEventV1)]
            entries = [body for body in told if not isinstance(body, PaymentEventV1)]
            payments.sort(key=lambda body: (body.version, body.occurred_at))
            in_order = [as_told_to(body, straight, "x") for body in (*payments, *entries)]
            await tell(service, in_order)
            for batch in batches:
                by_queue: dict[str, list[Any]] = {}
                for body in batch:
                    by_queue.setdefault(queue_of(service, body).queue.name, []).append(body)
                for bodies in by_queue.values():
                    await tell(service, bodies)
            client = told[0].client_id
            await assert_rollups_are_true(service, client)
            await assert_rollups_are_true(service, straight)
            for grain in ("hour", "day"):
                assert _without_client(await rollups(service, client, grain)) == _without_client(
                    await rollups(service, straight, grain)
                )
            assert [_bare(f) for f in await facts(service, client)] == [
                _bare(f, "x") for f in await facts(service, straight)
            ]
        finally:
            await service.database.close()

    asyncio.run(run())


def _without_client(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "client_id"} for row in rows]


def _bare(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A fact without whose it is; entries as a set."""
    bare = {k: v for k, v in row.items() if k != "client_id"}
    bare["payment_id"] = bare["payment_id"].removeprefix(prefix)
    bare["entry_ids"] = sorted(bare["entry_ids"])
    return bare
