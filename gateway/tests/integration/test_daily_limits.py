"""Limits: the stricter one holds, and no two requests together exceed a day's."""

import asyncio
import datetime as dt
import secrets
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mospay_shared.contracts import LimitsV1, PaymentStatus

from .conftest import PHONE, Gateway, Merchant, eventually, newer, news, running, wire

OTHER_PHONE = "+250788888888"


def daily(minor: int | None = None, phone: int | None = None) -> dict[str, Any]:
    """A service with these limits of a day."""
    return {"limits": {"daily_minor": minor, "daily_phone_minor": phone}}


async def used(gateway: Gateway, merchant: Merchant) -> list[int]:
    """Return what the merchant's counters hold, the client's own first."""
    rows = await gateway.sql.fetch(
        "select used_minor from limit_counters where client_id = $1 order by subject",
        merchant.client.client_id,
    )
    return [int(row["used_minor"]) for row in rows]


async def accepted_minor(gateway: Gateway, merchant: Merchant) -> int:
    """Return the sum of what was accepted."""
    asked = "select coalesce(sum(amount_minor), 0) from payments where client_id = $1"
    return int(await gateway.sql.fetchval(asked, merchant.client.client_id))


def refusal(answer: httpx.Response) -> tuple[int, str, str, str]:
    """Return status, problem code, field and its fault's code."""
    body = answer.json()
    return answer.status_code, body["code"], body["errors"][0]["field"], body["errors"][0]["code"]


async def test_what_does_not_fit_the_day_is_refused_with_what_is_left(gateway: Gateway) -> None:
    merchant = await gateway.merchant(**daily(2500))
    for _ in range(2):
        assert (await gateway.pay(merchant)).status_code == 202
    key = secrets.token_hex(8)
    refused = await gateway.pay(merchant, key, reference="late")
    code = "daily_limit_exceeded"
    assert refusal(refused) == (422, code, "amount_minor", code)
    assert "500 RWF is left" in refused.json()["errors"][0]["message"]
    fits = await gateway.pay(merchant, key, reference="late", amount_minor=500)
    assert fits.status_code == 202, "a refused request claims neither its key nor its reference"
    assert await used(gateway, merchant) == [2500, 2500]


async def test_field_api_names_f004_and_the_number_has_its_own_limit(gateway: Gateway) -> None:
    merchant = await gateway.merchant(**daily(3000, phone=1500))
    headers = {**merchant.headers, "Prefer": "wait=0"}

    async def process(**changes: Any) -> httpx.Response:
        return await gateway.http.post(
            "/api/v1/payment/process", json=merchant.fields(**changes), headers=headers
        )

    assert (await process()).status_code == 202
    code = "daily_limit_exceeded"
    assert refusal(await process()) == (422, code, "f005", "daily_phone_limit_exceeded")
    assert (await process(f005=OTHER_PHONE)).status_code == 202
    assert refusal(await process(f004="1500", f005="+250789999999")) == (422, code, "f004", code)


async def test_stricter_limit_of_service_and_assignment_holds(gateway: Gateway) -> None:
    merchant = await gateway.merchant(
        limits={"min_minor": 100, "max_minor": 5000, "daily_minor": 9000}
    )
    own = {"min_minor": 500, "max_minor": 9_000, "daily_minor": 2000}
    await gateway.tell(newer(merchant.assignment, limits=LimitsV1(**own)))
    too_small = await gateway.pay(merchant, amount_minor=499)
    assert refusal(too_small)[3] == "amount_too_small"
    assert refusal(await gateway.pay(merchant, amount_minor=5001))[3] == "amount_too_large"
    assert (await gateway.pay(merchant, amount_minor=2000)).status_code == 202
    assert refusal(await gateway.pay(merchant, amount_minor=500))[3] == "daily_limit_exceeded"
    offered = await gateway.http.get("/api/v1/client/services", headers=merchant.headers)
    assert offered.json()["services"][0]["limits"] == {
        "min_minor": 500, "max_minor": 5000, "daily_minor": 2000, "daily_phone_minor": None,
    }  # fmt: skip


async def test_assignments_wait_wins_over_the_clients(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    client = newer(merchant.client, answer_wait_seconds=60)
    await gateway.tell(client, newer(merchant.assignment, answer_wait_seconds=1))
    async with asyncio.timeout(10):
        answer = await gateway.http.post(
            "/api/v1/payment/process", json=merchant.fields(), headers=merchant.headers
        )
    assert answer.status_code == 202 and answer.json()["outcome"] == "processing"


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_an_end_without_money_sets_the_amount_free_once(
    gateway: Gateway, status: str
) -> None:
    merchant = await gateway.merchant(**daily(1000))
    made = (await gateway.pay(merchant)).json()
    assert (await gateway.pay(merchant)).status_code == 422
    ended = news(made, merchant, status=PaymentStatus(status))
    for _ in range(2):
        await gateway.publish(*wire(ended))
    await eventually(lambda: counters_are(gateway, merchant, [0, 0]))
    again = news(made, merchant, status=PaymentStatus(status), version=3)
    await gateway.publish(*wire(again))
    await eventually(lambda: gateway.count("payments", "id = $1 and version = 3", made["id"]))
    assert await used(gateway, merchant) == [0, 0]
    assert (await gateway.pay(merchant)).status_code == 202


async def counters_are(gateway: Gateway, merchant: Merchant, wanted: list[int]) -> bool:
    """Say whether the counters hold this."""
    return await used(gateway, merchant) == wanted


@pytest.mark.parametrize("status", ["processing", "unknown", "held", "conflicted", "succeeded"])
async def test_what_goes_on_or_was_paid_keeps_its_reservation(
    gateway: Gateway, status: str
) -> None:
    merchant = await gateway.merchant(**daily(1000))
    made = (await gateway.pay(merchant)).json()
    await gateway.publish(*wire(news(made, merchant, status=PaymentStatus(status))))
    await eventually(lambda: gateway.count("payments", "id = $1 and version = 2", made["id"]))
    assert await used(gateway, merchant) == [1000, 1000]


async def test_late_success_counts_again_even_over_the_limit(gateway: Gateway) -> None:
    merchant = await gateway.merchant(**daily(1000))
    first = (await gateway.pay(merchant)).json()
    await gateway.publish(*wire(news(first, merchant, status=PaymentStatus.FAILED)))
    await eventually(lambda: counters_are(gateway, merchant, [0, 0]))
    assert (await gateway.pay(merchant)).status_code == 202
    await gateway.publish(*wire(news(first, merchant, version=3, late=True)))
    await eventually(lambda: counters_are(gateway, merchant, [2000, 2000]))
    refused = await gateway.pay(merchant, amount_minor=100)
    assert "0 RWF is left" in refused.json()["errors"][0]["message"]


async def test_rule_25_the_day_of_a_limit_is_the_clients_own(gateway: Gateway) -> None:
    merchant = await gateway.merchant(**daily(1000))
    await gateway.tell(newer(merchant.client, time_zone="Pacific/Kiritimati"))
    await gateway.pay(merchant)
    asked = "select distinct day from limit_counters where client_id = $1"
    there = dt.timezone(dt.timedelta(hours=14))
    day = await gateway.sql.fetchval(asked, merchant.client.client_id)
    assert day == dt.datetime.now(there).date()


async def test_counters_hold_no_phone_number(gateway: Gateway) -> None:
    merchant = await gateway.merchant(**daily(phone=10_000))
    await gateway.pay(merchant)
    rows = await gateway.sql.fetch(
        "select subject from limit_counters where client_id = $1", merchant.client.client_id
    )
    assert sorted(len(row["subject"]) for row in rows) == [0, 32]
    assert all(PHONE.encode() not in row["subject"] for row in rows)


async def test_old_counters_are_dropped(gateway: Gateway, gateway_env: dict[str, str]) -> None:
    merchant, fresh = await gateway.merchant(**daily(9000)), await gateway.merchant(**daily(9000))
    await gateway.pay(merchant)
    await gateway.pay(fresh)
    await gateway.sql.execute(
        "update limit_counters set day = day - 30 where client_id = $1", merchant.client.client_id
    )
    async with running(gateway_env):
        await eventually(lambda: counters_are(gateway, merchant, []))
    assert await used(gateway, fresh) == [1000, 1000]


@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    amounts=st.lists(st.integers(1, 900), min_size=2, max_size=40),
    phones=st.lists(st.booleans(), min_size=40, max_size=40),
    limit=st.integers(500, 3000),
    phone_limit=st.none() | st.integers(300, 2000),
)
def test_requests_at_once_never_exceed_a_day(
    racing: Any, amounts: list[int], phones: list[bool], limit: int, phone_limit: int | None
) -> None:
    """Two gateways, all requests at once: nothing exceeds, and what was refused did not fit."""
    racing(amounts, phones, limit, phone_limit)


@pytest.fixture
async def racing(gateway: Gateway, gateway_env: dict[str, str]) -> Any:
    """Runs one example; the loop goes on between them."""
    loop = asyncio.get_running_loop()
    async with running(gateway_env) as (_, second):

        async def race(
            amounts: list[int], phones: list[bool], limit: int, phone_limit: int | None
        ) -> None:
            merchant = await gateway.merchant(**daily(limit, phone_limit))
            await eventually(lambda: known(second, merchant))
            numbers = [PHONE if first else OTHER_PHONE for first in phones]
            answers = await asyncio.gather(
                *(
                    http.post(
                        "/v1/payments",
                        json=merchant.body(amount_minor=amount, phone=number),
                        headers={**merchant.headers, "Idempotency-Key": secrets.token_hex(8)},
                    )
                    for amount, number, http in zip(
                        amounts, numbers, [gateway.http, second] * 20, strict=False
                    )
                )
            )
            taken = {PHONE: 0, OTHER_PHONE: 0}
            for answer, amount, number in zip(answers, amounts, numbers, strict=False):
                assert answer.status_code in (202, 422), answer.text
                taken[number] += amount if answer.status_code == 202 else 0
            total = sum(taken.values())
            assert total == await accepted_minor(gateway, merchant) <= limit
            assert (await used(gateway, merchant))[0] == total
            assert max(taken.values()) <= (phone_limit or limit)
            for answer, amount, number in zip(answers, amounts, numbers, strict=False):
                if answer.status_code == 422:
                    over = total + amount > limit
                    assert over or (phone_limit and taken[number] + amount > phone_limit)

        yield lambda *args: loop.run_until_complete(race(*args))


async def known(http: httpx.AsyncClient, merchant: Merchant) -> bool:
    """Say whether a gateway knows a merchant's service."""
    answer = await http.get("/api/v1/client/services", headers=merchant.headers)
    return answer.status_code == 200 and bool(answer.json()["services"])
