"""Settlement and payout events in: webhooks as for payments, signed alike."""

import datetime as dt

import orjson
from mospay_shared.contracts import PayoutStatus, PayoutV1, SettlementV1, outgoing
from mospay_shared.ids import new_id
from standardwebhooks import Webhook

from .conftest import Receiver, Stage

NOW = dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC)


def settlement(client_id: str) -> SettlementV1:
    """A settlement of 2,440."""
    return SettlementV1(
        settlement_id=new_id("set"), client_id=client_id, mode="test", currency="RWF",
        local_day=dt.date(2026, 11, 20), part=1, time_zone="Africa/Kigali", cut_off_at=NOW,
        lines=3, gross_minor=3000, fee_minor=60, refund_minor=-500, adjustment_minor=0,
        net_minor=2440, reserve_minor=0, version=1, occurred_at=NOW,
    )  # fmt: skip


def payout(client_id: str, status: PayoutStatus) -> PayoutV1:
    """A payout of 2,000."""
    return PayoutV1(
        payout_id=new_id("po"), client_id=client_id, mode="test", currency="RWF",
        amount_minor=2000, status=status, destination="bank", version=3, occurred_at=NOW,
    )  # fmt: skip


async def test_settlement_and_payout_are_told_signed_once_and_a_foreign_one_is_not(
    stage: Stage, receiver: Receiver
) -> None:
    _, secret = await stage.endpoint(receiver.url)
    settled, paid = settlement(stage.client_id), payout(stage.client_id, PayoutStatus.PAID)
    quiet = payout(stage.client_id, PayoutStatus.CREATED)  # not among the default news
    news = [
        outgoing("settlement.processed.v1", settled.settlement_id, settled, source="ledger"),
        outgoing("payout.created.v1", quiet.payout_id, quiet, source="ledger"),
        outgoing("settlement.processed.v1", "set_x", settlement("cli_x"), source="ledger"),
        outgoing("payout.paid.v1", paid.payout_id, paid, source="ledger"),
    ]
    for event in news:
        for _ in range(2):  # told twice, taken once
            await stage.publish(event.type, event.body)
    await receiver.wait(2)
    for event in news:
        await stage.handled(event.id)
    told = {}
    for headers, raw in receiver.got:
        content = Webhook(secret).verify(raw, headers)
        told[content["type"]] = content["data"]
    assert set(told) == {"settlement.processed", "payout.paid"}
    assert len(receiver.got) == 2
    assert told["settlement.processed"]["id"] == settled.settlement_id
    assert told["settlement.processed"]["local_day"] == "2026-11-20"
    assert (told["payout.paid"]["id"], told["payout.paid"]["version"]) == (paid.payout_id, 3)


async def test_malformed_settlement_is_dead_and_its_neighbour_is_told(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    good, bad = settlement(stage.client_id), settlement(stage.client_id)
    raws = [
        orjson.loads(outgoing("settlement.processed.v1", b.settlement_id, b, source="t").body)
        for b in (good, bad)
    ]
    raws[0]["data"]["a_later_field"] = {"deep": True}
    del raws[1]["data"]["net_minor"]
    await stage.publish("settlement.processed.v1", *(orjson.dumps(raw) for raw in raws))
    await receiver.wait(1)
    await stage.handled(raws[1]["id"], "dead")
    assert orjson.loads(receiver.got[0][1])["data"]["id"] == good.settlement_id
