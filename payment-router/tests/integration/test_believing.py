"""Believing: raw answers first, each on its own, and never more than they prove."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from mospay_dev.plans import Watched
from mospay_payment_router.domain.answers import Finding
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.domain.states import Evidence
from mospay_payment_router.storage import payments
from mospay_payment_router.usecases.believe import Believer, Heard
from mospay_shared.contracts import PaymentStatus

from .conftest import Answering, Stage, held_until, success, until

GARBAGE = b'{"outcome": "succeeded", "x": "\x00\xff'


async def replace_function(stage: Stage, name: str, body: str) -> None:
    """Give a RESPONSE_ function of a merchant another body, as a person may."""
    await stage.database.execute(
        f'create or replace function fx."{name}"(unique_id text, data_input json, code integer, '
        f"data_output json) returns table (results json) language plpgsql as $$ {body} $$"
    )


async def test_one_bad_answer_of_64_leaves_63_paid_and_one_unknown(
    stage: Stage, provider: Answering
) -> None:
    release, arrived = asyncio.Event(), [0]

    async def together(reference: str) -> Any:
        arrived[0] += 1
        number = arrived[0]
        if number == 64:
            release.set()
        await release.wait()
        return (200, GARBAGE) if number == 30 else success(reference)

    provider.plays["payment"] = [together]
    provider.plays["enquiry"] = [lambda _: (503, b"")]
    merchant = await stage.merchant(provider.url, timeout=10)
    ids = [await stage.pay(merchant) for _ in range(64)]

    async def all_ended() -> Any:
        rows = await stage.database.fetch(
            "select id, status from payments where id = any($1) and status <> 'processing'", ids
        )
        return rows if len(rows) == 64 else None

    statuses = [row["status"] for row in await until(all_ended)]
    assert (statuses.count("succeeded"), statuses.count("unknown")) == (63, 1)
    unknown = await stage.database.fetchval(
        "select id from payments where id = any($1) and status = 'unknown'", ids
    )
    attempt = await stage.attempt(unknown)
    assert attempt["answer"] == GARBAGE
    assert attempt["http_status"] == 200


async def test_settling_never_compares_a_batch_with_itself(
    stage: Stage, provider: Answering
) -> None:
    release = asyncio.Event()
    provider.plays["payment"] = [held_until(release)]
    merchant = await stage.merchant(provider.url, timeout=30)
    ids = [await stage.pay(merchant) for _ in range(60)]
    taken = "select count(*) = 60 from payments where id = any($1)"
    await until(lambda: stage.database.fetchval(taken, ids))
    with pytest.raises(_Rollback):
        async with stage.service.database.transaction() as tx:
            found = await payments.load(tx, ids)
            watched = Watched(tx.connection)
            await payments.settle(watched, [_paid(payment) for payment in found.values()])
            paid = await tx.fetch(
                "select a.state, a.result from payments p join attempts a on a.payment_id = p.id "
                "join payment_transitions t on (t.payment_id, t.version) = (p.id, p.version) "
                "where p.id = any($1) and p.status = 'succeeded'",
                ids,
            )
            assert [tuple(row) for row in paid] == [("ended", "success")] * 60
            raise _Rollback
    release.set()
    assert watched.compared < len(ids)
    for payment_id in ids:
        await stage.ends(payment_id, "succeeded")


class _Rollback(Exception):
    """What a test wrote is not to stay."""


def _paid(payment: Payment) -> payments.Change:
    after = replace(payment, status=PaymentStatus.SUCCEEDED)
    return payments.Change(
        after, payment.version, 1, payment.status, Evidence.SUCCEEDED, None, "ended", "success",
        None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("begin raise exception 'boom'; end", "boom"),
        ("begin perform pg_sleep(20); end", "57014"),
        ("begin return; end", "P0002"),
        ("begin results := '[1]'; return next; end", "JSON object"),
        ("begin results := json_build_object('outcome', 'great'); return next; end", ""),
    ],
)
async def test_response_function_that_fails_leaves_unknown_with_the_raw_answer_and_reason(
    stage: Stage, provider: Answering, body: str, reason: str
) -> None:
    merchant = await stage.merchant(provider.url)
    stem = f"RESPONSE_{merchant.app_id}_{merchant.microservice}_payment"
    await replace_function(stage, stem, body)
    provider.plays["enquiry"] = [lambda _: (503, b"")]
    payment_id = await stage.pay(merchant)
    told = await stage.told(payment_id, 1)
    while told[-1]["data"]["status"] != "unknown":
        told = await stage.told(payment_id, len(told) + 1)
    assert reason in (told[-1]["data"]["reason_message"] or "")
    attempt = await stage.attempt(payment_id)
    assert b"succeeded" in attempt["answer"]
    # the enquiry goes on and, once the provider answers it, ends the payment
    provider.plays["enquiry"] = [success]
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 1


async def test_enquiry_function_that_fails_changes_nothing(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["payment"] = [lambda _: (202, {"outcome": "pending"})]
    merchant = await stage.merchant(provider.url)
    stem = f"RESPONSE_{merchant.app_id}_{merchant.microservice}_paymentStatus"
    await replace_function(stage, stem, "begin raise exception 'boom'; end")
    payment_id = await stage.pay(merchant)

    async def asked() -> bool:
        row = await stage.payment(payment_id)
        return row is not None and row["enquiries"] >= 3

    await until(asked)
    row = await stage.payment(payment_id)
    assert row is not None
    assert (row["status"], row["version"]) == ("processing", 1)


async def test_answered_attempt_reruns_its_function_before_any_enquiry(
    stage: Stage, provider: Answering
) -> None:
    """The process died between storing the answer and hearing the RESPONSE function."""
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    provider.requests.clear()
    await stage.database.execute(
        "delete from payment_transitions where payment_id = $1", payment_id
    )
    await stage.database.execute(
        "update payments set status = 'processing', version = 1, provider_reference = null, "
        "next_action_at = now() + interval '1 h' where id = $1",
        payment_id,
    )
    await stage.database.execute(
        "update attempts set state = 'answered', next_action_at = now() where payment_id = $1",
        payment_id,
    )
    row = await stage.ends(payment_id, "succeeded")
    assert row["provider_reference"] == f"prov_{payment_id}"
    assert provider.requests == []


async def test_late_answer_of_a_former_owner_is_kept_and_believed(
    stage: Stage, provider: Answering
) -> None:
    """Two routers hold one attempt: fencing moves it, the late answer is evidence all the same."""
    release = asyncio.Event()
    provider.plays["payment"] = [held_until(release)]
    provider.plays["enquiry"] = [lambda _: (503, b"")]
    merchant = await stage.merchant(provider.url, timeout=8)
    payment_id = await stage.pay(merchant)

    async def under_way() -> bool:
        return provider.seen(payment_id) == 1

    await until(under_way)
    await stage.database.execute(
        "update attempts set lease_until = now(), next_action_at = now() where payment_id = $1",
        payment_id,
    )
    await stage.ends(payment_id, "unknown")
    assert (await stage.attempt(payment_id))["fence"] == 2
    release.set()
    await stage.ends(payment_id, "succeeded")
    attempt = await stage.attempt(payment_id)
    assert (attempt["state"], attempt["http_status"]) == ("ended", 200)
    assert provider.seen(payment_id) == 1


async def heard(stage: Stage, payment_id: str, *evidences: Evidence) -> None:
    """Believe evidence about a payment, each in a transaction of its own but all at once."""
    believer = Believer(stage.service.relay, [60.0], 3600)
    async with stage.service.database.transaction() as tx:
        stale = (await payments.load(tx, [payment_id]))[payment_id]

    async def one(evidence: Evidence) -> None:
        async with stage.service.database.transaction() as tx:
            await believer.believe(tx, [Heard(stale, "att_1", "src_1", Finding(evidence))])

    await asyncio.gather(*(one(evidence) for evidence in evidences))


async def unknown_payment(stage: Stage, provider: Answering) -> str:
    provider.plays["payment"] = [lambda _: (500, b"")]
    provider.plays["enquiry"] = [lambda _: (503, b"")]
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "unknown")
    return payment_id


async def test_callback_and_enquiry_at_once_move_a_payment_once(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    await heard(stage, payment_id, *[Evidence.SUCCEEDED] * 5)
    row = await stage.ends(payment_id, "succeeded")
    assert row["version"] == 3
    told = [e for e in await stage.told(payment_id, 2) if e["data"]["status"] == "succeeded"]
    assert len(told) == 1


async def test_disagreement_in_any_order_ends_in_proven_success(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    await heard(
        stage, payment_id, Evidence.DECLINED, Evidence.SUCCEEDED, Evidence.UNDEFINED,
        Evidence.PENDING,
    )  # fmt: skip
    row = await stage.ends(payment_id, "succeeded")
    assert row["late"] or row["attention"] == "contradicted"


async def test_late_success_is_told_as_late_and_later_declines_are_for_people(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    await heard(stage, payment_id, Evidence.DECLINED)
    await stage.ends(payment_id, "failed")
    await heard(stage, payment_id, Evidence.SUCCEEDED)
    await stage.ends(payment_id, "succeeded")
    told = await stage.told(payment_id, 3)
    assert told[-1]["type"] == "payment.succeeded.v1"
    assert told[-1]["data"]["late"] is True
    await heard(stage, payment_id, Evidence.DECLINED)
    row = await stage.payment(payment_id)
    assert row is not None
    assert (row["status"], row["attention"]) == ("succeeded", "contradicted")


async def test_several_findings_about_one_payment_in_a_batch_all_count(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    believer = Believer(stage.service.relay, [60.0], 3600)
    async with stage.service.database.transaction() as tx:
        stale = (await payments.load(tx, [payment_id]))[payment_id]
        await believer.believe(
            tx,
            [
                Heard(stale, "att_1", "src_1", Finding(Evidence.DECLINED)),
                Heard(stale, "att_1", "src_2", Finding(Evidence.SUCCEEDED)),
            ],
        )
    row = await stage.ends(payment_id, "succeeded")
    assert (row["late"], row["version"]) == (True, 4)


async def test_rule_11_nothing_can_be_left_that_nobody_wakes(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    for statement in (
        "update payments set next_action_at = null where id = $1",
        "update attempts set next_action_at = null where payment_id = $1",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await stage.database.execute(statement, payment_id)


async def test_still_unknown_after_its_maximum_age_asks_for_a_person(
    stage: Stage, provider: Answering
) -> None:
    payment_id = await unknown_payment(stage, provider)
    await stage.database.execute(
        "update payments set created_at = now() - interval '25 h', next_action_at = now() "
        "where id = $1",
        payment_id,
    )

    async def noticed() -> bool:
        row = await stage.payment(payment_id)
        return row is not None and row["attention"] == "unresolved"

    await until(noticed)
    assert (await stage.payment(payment_id) or {})["next_action_at"] is not None
