"""Review of held payments: release, refuse, what comes too late, twice, early or from elsewhere."""

import asyncio
import datetime as dt
from typing import Any

import orjson
import pytest
from mospay_shared.contracts import CancelPaymentV1, Outgoing, ReviewPaymentV1, outgoing

from .conftest import Answering, Merchant, Stage, until
from .risky import add_rule
from .test_messages import inbox_row, raw

HOLD_ALL = {"kind": "amount_above", "currency": "RWF", "amount_minor": 0, "decision": "hold"}


def review(merchant: Merchant, payment_id: str, decision: str, **other: Any) -> Outgoing:
    """The command by which a person decides on version 2 of a payment."""
    values = {
        "payment_id": payment_id,
        "client_id": merchant.client_id,
        "mode": "test",
        "version": 2,
        "decision": decision,
        "note": "spoke with the payer",
        "by": "usr_1",
        "requested_at": dt.datetime.now(dt.UTC),
    }
    body = ReviewPaymentV1(**(values | other))
    return outgoing("payments.review.v1", payment_id, body, source="portal-api")


def cancel(merchant: Merchant, payment_id: str) -> Outgoing:
    """The command by which the client cancels."""
    body = CancelPaymentV1(
        payment_id=payment_id,
        client_id=merchant.client_id,
        mode="test",
        requested_at=dt.datetime.now(dt.UTC),
    )
    return outgoing("payments.cancel.v1", payment_id, body, source="gateway")


async def held(stage: Stage, provider: Answering, **changes: Any) -> tuple[Merchant, str]:
    """A client whose payments are all held, and one of them."""
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    payment_id = await stage.pay(merchant, **changes)
    await stage.ends(payment_id, "held")
    return merchant, payment_id


async def reviewed(stage: Stage, payment_id: str, count: int = 1) -> list[Any]:
    """Wait until so many reviews of a payment are recorded and return them."""

    async def recorded() -> Any:
        rows = await stage.database.fetch(
            "select * from risk_reviews where payment_id = $1 order by at", payment_id
        )
        return rows if len(rows) >= count else None

    rows: list[Any] = await until(recorded)
    return rows


async def transitions(stage: Stage, payment_id: str) -> list[tuple[str, str, str]]:
    rows = await stage.database.fetch(
        "select from_status, to_status, evidence from payment_transitions "
        "where payment_id = $1 order by version",
        payment_id,
    )
    return [tuple(row) for row in rows]


async def test_a_released_payment_is_sent_once_and_ends_like_any_other(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    assert provider.seen(payment_id) == 0
    await stage.publish(review(merchant, payment_id, "release"))
    row = await stage.ends(payment_id, "succeeded")
    assert (row["version"], row["reason_code"]) == (4, None)
    assert provider.seen(payment_id) == 1
    assert (await stage.attempt(payment_id))["number"] == 1
    assert await transitions(stage, payment_id) == [
        ("processing", "held", "held_by_risk"),
        ("held", "processing", "released"),
        ("processing", "succeeded", "succeeded"),
    ]
    told = await stage.told(payment_id, 3, announced=True)
    kinds = [(e["type"], e["data"]["version"]) for e in told]
    assert kinds == [("payment.held.v1", 2), ("payment.processing.v1", 3),
                     ("payment.succeeded.v1", 4)]  # fmt: skip
    assert (told[1]["data"]["previous_status"], told[1]["data"]["reason_code"]) == ("held", None)
    (kept,) = await reviewed(stage, payment_id)
    assert (kept["by"], kept["decision"], kept["applied"]) == ("usr_1", "release", True)


async def test_a_payment_refused_in_review_is_cancelled_with_zero_calls(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    await stage.publish(review(merchant, payment_id, "refuse"))
    row = await stage.ends(payment_id, "cancelled")
    assert (row["version"], row["reason_code"]) == (3, "refused_in_review")
    assert "spoke with" not in str(row["reason_message"])  # the note is the operator's own
    assert (await stage.attempt(payment_id))["state"] == "ended"
    assert provider.seen(payment_id) == 0
    assert (await transitions(stage, payment_id))[-1] == ("held", "cancelled", "refused_in_review")


async def test_a_repeated_review_changes_nothing(stage: Stage, provider: Answering) -> None:
    merchant, payment_id = await held(stage, provider)
    command = review(merchant, payment_id, "release")
    await stage.publish(command, command, review(merchant, payment_id, "release"))
    await stage.ends(payment_id, "succeeded")
    await stage.publish(review(merchant, payment_id, "refuse", by="usr_2"))
    first, second = await reviewed(stage, payment_id, 2)
    assert (first["applied"], second["applied"]) == (True, False)
    assert (await stage.payment(payment_id) or {})["status"] == "succeeded"
    assert provider.seen(payment_id) == 1
    assert len(await transitions(stage, payment_id)) == 3


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_review_of_another_version_is_no_review(
    stage: Stage, provider: Answering, version: int
) -> None:
    merchant, payment_id = await held(stage, provider)
    await stage.publish(review(merchant, payment_id, "refuse", version=version))
    (kept,) = await reviewed(stage, payment_id)
    assert kept["applied"] is False
    assert (await stage.payment(payment_id) or {})["status"] == "held"


async def test_a_review_of_a_payment_that_is_not_held_changes_nothing(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    await stage.publish(review(merchant, payment_id, "refuse"))
    (kept,) = await reviewed(stage, payment_id)
    assert kept["applied"] is False
    assert (await stage.payment(payment_id) or {})["status"] == "succeeded"


async def test_a_review_that_comes_before_its_payment_is_tried_again(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    command = stage.command(merchant)
    early = review(merchant, command.payment_id, "refuse")
    await stage.publish(early)
    assert "NotYetKnown" in (await inbox_row(stage, early.id, "retry"))["reason"]
    await stage.process(command)
    await stage.ends(command.payment_id, "cancelled")


async def test_unknown_fields_of_a_review_are_ignored_and_a_malformed_one_is_dead(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    bad, good = (
        orjson.loads(review(merchant, payment_id, "refuse").body),
        orjson.loads(review(merchant, payment_id, "refuse").body),
    )
    bad["data"]["decision"] = "maybe"
    good["data"]["added_later"] = {"x": 1}
    await raw(stage, orjson.dumps([bad, good]), "payments.review.v1")
    await stage.ends(payment_id, "cancelled")
    assert "decision" in (await inbox_row(stage, bad["id"], "dead"))["reason"]


@pytest.mark.parametrize("wrong", [{"client_id": "cli_other"}, {"mode": "live"}])
async def test_a_review_for_another_tenant_is_dead(
    stage: Stage, provider: Answering, wrong: dict[str, str]
) -> None:
    merchant, payment_id = await held(stage, provider)
    command = review(merchant, payment_id, "release", **wrong)
    await stage.publish(command)
    assert "another client or mode" in (await inbox_row(stage, command.id, "dead"))["reason"]
    assert (await stage.payment(payment_id) or {})["status"] == "held"


async def test_a_release_after_its_time_sends_nothing(stage: Stage, provider: Answering) -> None:
    merchant, payment_id = await held(stage, provider)
    await stage.database.execute(
        "update payments set send_before = now() where id = $1", payment_id
    )
    await stage.publish(review(merchant, payment_id, "release"))
    assert (await stage.ends(payment_id, "expired"))["reason_code"] == "send_before_passed"
    assert provider.seen(payment_id) == 0


async def test_a_release_after_the_payload_was_erased_sends_nothing(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    erase = "update attempts set payload = null where payment_id = $1"
    await stage.database.execute(erase, payment_id)
    await stage.publish(review(merchant, payment_id, "release"))
    assert (await stage.ends(payment_id, "expired"))["reason_code"] == "payload_erased"
    other = await stage.merchant(provider.url)
    await stage.ends(await stage.pay(other), "succeeded")  # the claim goes on


async def test_a_held_payment_can_be_cancelled_and_not_be_released_any_more(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    await stage.publish(cancel(merchant, payment_id))
    await stage.ends(payment_id, "cancelled")
    await stage.publish(review(merchant, payment_id, "release"))
    (kept,) = await reviewed(stage, payment_id)
    assert kept["applied"] is False
    assert provider.seen(payment_id) == 0


async def test_release_and_cancel_at_once_end_in_one_of_both_and_send_at_most_once(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    ids = [await stage.pay(merchant) for _ in range(12)]
    for payment_id in ids:
        await stage.ends(payment_id, "held")
    await asyncio.gather(
        *(stage.publish(review(merchant, p, "release")) for p in ids),
        *(stage.publish(cancel(merchant, p)) for p in ids),
    )
    for payment_id in ids:

        async def ended(payment_id: str = payment_id) -> Any:
            row = await stage.payment(payment_id)
            return row if row and row["status"] in ("succeeded", "cancelled") else None

        row = await until(ended)
        assert provider.seen(payment_id) == (1 if row["status"] == "succeeded" else 0)


async def test_release_and_expiry_at_once_end_in_one_of_both(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    ids = [await stage.pay(merchant, send_before=soon) for _ in range(10)]
    for payment_id in ids:
        await stage.ends(payment_id, "held")
    left = (soon - dt.datetime.now(dt.UTC)).total_seconds()
    for number, payment_id in enumerate(ids):  # around the moment, not after it
        delay = max(0.0, left - 0.15 + number * 0.03)
        asyncio.get_running_loop().call_later(
            delay, _publish, stage, review(merchant, payment_id, "release")
        )
    for payment_id in ids:

        async def ended(payment_id: str = payment_id) -> Any:
            row = await stage.payment(payment_id)
            return row if row and row["status"] in ("succeeded", "expired") else None

        row = await until(ended)
        assert provider.seen(payment_id) == (1 if row["status"] == "succeeded" else 0)


_PUBLISHING: set[asyncio.Task[None]] = set()


def _publish(stage: Stage, message: Outgoing) -> None:
    task = asyncio.get_running_loop().create_task(stage.publish(message))
    _PUBLISHING.add(task)
    task.add_done_callback(_PUBLISHING.discard)


async def test_contradicting_reviews_at_once_let_one_person_decide(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    await asyncio.gather(
        stage.publish(review(merchant, payment_id, "release", by="usr_1")),
        stage.publish(review(merchant, payment_id, "refuse", by="usr_2")),
    )
    kept = await reviewed(stage, payment_id, 2)
    assert sorted(row["applied"] for row in kept) == [False, True]
    (applied,) = [row for row in kept if row["applied"]]
    wanted = "succeeded" if applied["decision"] == "release" else "cancelled"
    await stage.ends(payment_id, wanted)


async def test_what_was_released_is_known_the_next_time(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    new = {"kind": "first_seen_payer", "currency": "RWF", "amount_minor": 0, "points": 60}
    await add_rule(stage, merchant, new)
    phone = "+250780001234"
    payment_id = await stage.pay(merchant, phone=phone)
    await stage.ends(payment_id, "held")
    await stage.publish(review(merchant, payment_id, "release"))
    await stage.ends(payment_id, "succeeded")
    await stage.wiring.histories.write(stage.service.database)
    await stage.ends(await stage.pay(merchant, phone=phone), "succeeded")


async def test_reviews_are_in_the_trace_and_beside_the_decision(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await held(stage, provider)
    await stage.publish(review(merchant, payment_id, "release"))
    await stage.ends(payment_id, "succeeded")
    path = f"/internal/v1/traces/{payment_id}"
    hops = (await stage.http.get(path, headers=stage.token("trace:read"))).json()["hops"]
    (hop,) = [h for h in hops if h["name"] == "review: release"]
    assert (hop["detail"], hop["data"]["by"]) == ("spoke with the payer", "usr_1")
    (moved,) = [h for h in hops if h["name"] == "held → processing"]
    assert moved["data"]["source_id"] == "usr_1"
    path = f"/internal/v1/risk/decisions?payment_id={payment_id}"
    (item,) = (await stage.http.get(path, headers=stage.token("risk:read"))).json()["items"]
    assert item["status"] == "succeeded"
    assert [(r["by"], r["applied"]) for r in item["reviews"]] == [("usr_1", True)]


async def test_the_gauge_counts_what_is_held(stage: Stage, provider: Answering) -> None:
    from mospay_payment_router.usecases.risk_history import HELD, HELD_AGE

    before = await stage.database.fetchval("select count(*) from payments where status = 'held'")
    await held(stage, provider)
    await stage.wiring.upkeep._upkeep()
    assert HELD._value.get() == before + 1
    assert HELD_AGE._value.get() > 0
