"""Paying an invoice: one intent, one key, one payment, whatever is repeated, lost or late."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from mospay_ledger.clients import GatewayClient
from mospay_ledger.domain.paying import Tenant, Wish
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases.paying import Till
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .conftest import booked, until
from .paying_house import PHONE, Shop, open_shop


@pytest.fixture
async def shop(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner
) -> AsyncIterator[Shop]:
    """A shop whose sweeper is quick."""
    async with open_shop(ledger_env, monkeypatch, portal) as made:
        yield made


def till_of(shop: Shop, **changes: Any) -> Till:
    """A till of another process: nothing of it runs by itself."""
    settings = LedgerSettings().model_copy(update=changes)
    gateway = GatewayClient(
        shop.gateway.url,
        settings.signing_key.get_secret_value(),
        allowed=settings.allow_private_networks,
        timeout_seconds=2,
    )
    sealer = Sealer(settings.secrets_key.get_secret_value())
    return Till(shop.ledger.database, shop.ledger.relay, gateway, sealer, settings)


async def test_an_invoice_is_paid_by_one_payment_and_unlocked(shop: Shop) -> None:
    invoice = await shop.invoice(5000)
    answer = await shop.pay(invoice)
    assert answer.status_code == 202, answer.text
    intent = answer.json()
    assert (intent["state"], intent["amount_minor"]) == ("posted", 5000)
    assert intent["phone_masked"] == "**********000"
    sent = shop.gateway.bodies[0]
    assert sent["idempotency_key"] == sent["reference"] == intent["id"]
    assert sent["phone"] == PHONE and sent["metadata"] == {"invoice_id": invoice}
    assert (await shop.row(invoice))["locked_by"] == intent["id"]
    won = shop.news(intent["id"], "succeeded")
    await shop.tell(won)
    await shop.ended(intent["id"], "succeeded")
    row = await shop.row(invoice)
    assert (row["status"], row["paid_minor"], row["locked_by"]) == ("paid", 5000, None)
    await booked(shop.ledger, won.payment_id)


async def test_twenty_pay_now_at_once_are_one_payment(shop: Shop) -> None:
    invoice = await shop.invoice()
    answers = await asyncio.gather(*(shop.pay(invoice) for _ in range(20)))
    started = [a.json() for a in answers if a.status_code == 202]
    refused = [a.json() for a in answers if a.status_code == 409]
    assert len(started) == 1 and len(refused) == 19 and len(shop.gateway.payments) == 1
    assert {(p["code"], p["intent_id"]) for p in refused} == {
        ("payment_under_way", started[0]["id"])
    }


async def test_locked_and_crashed_before_the_post_the_same_key_is_posted_once(shop: Shop) -> None:
    """Rule 25, crash row "invoice locked, crash before the POST"."""
    invoice = await shop.invoice()
    intent = await till_of(shop).start(
        invoice, Wish(PHONE, service="collection"), Tenant(), by=None
    )  # and here its process ends
    assert intent.state == "open" and not shop.gateway.bodies
    assert (await shop.row(invoice))["locked_by"] == intent.id
    posted = await shop.ended(intent.id, "posted")
    assert [b["idempotency_key"] for b in shop.gateway.bodies] == [intent.id]
    assert posted.payment_id == shop.gateway.payments[intent.id]["id"]
    assert not await shop.value(
        "select phone_sealed from payment_intents where id = $1", intent.id
    ), "the phone is erased once the gateway has it"


async def test_a_lost_answer_is_asked_for_with_the_same_key(shop: Shop) -> None:
    shop.gateway.next = ["drop", "away"]
    invoice = await shop.invoice()
    answer = await shop.pay(invoice)
    assert answer.status_code == 202 and answer.json()["state"] == "open"
    await shop.ended(answer.json()["id"], "posted")
    assert len(shop.gateway.payments) == 1 and len(shop.gateway.bodies) >= 3
    assert {b["idempotency_key"] for b in shop.gateway.bodies} == {answer.json()["id"]}
    assert len({str(sorted(b.items())) for b in shop.gateway.bodies}) == 1, "bodies are the same"


async def test_what_the_gateway_refuses_names_the_field_and_unlocks(shop: Shop) -> None:
    shop.gateway.next = ["refuse"]
    invoice = await shop.invoice()
    answer = await shop.pay(invoice)
    assert answer.status_code == 422 and answer.json()["code"] == "payment_refused"
    assert answer.json()["errors"][0]["field"] == "phone"
    assert (await shop.row(invoice))["locked_by"] is None
    assert (await shop.pay(invoice)).status_code == 202


async def test_absence_is_proven_before_an_invoice_is_released(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, portal: TokenSigner
) -> None:
    quick = {"LEDGER_INTENT_SECONDS": "5", "LEDGER_ABSENCE_SECONDS": "0"}
    async with open_shop(ledger_env, monkeypatch, portal, **quick) as shop:
        invoice = await shop.invoice()
        till = till_of(shop, intent_seconds=0)  # over before it is sent
        intent = await till.start(invoice, Wish(PHONE, service="collection"), Tenant(), by=None)
        released = await shop.ended(intent.id, "released")
        assert released.reason_code == "not_accepted" and not shop.gateway.bodies
        assert (await shop.row(invoice))["locked_by"] is None


async def test_time_alone_releases_nothing(shop: Shop) -> None:
    """The grace after the last sending has not passed: a slow acceptance may still be coming."""
    invoice = await shop.invoice()
    till = till_of(shop, intent_seconds=0, absence_seconds=3600, intent_lease_seconds=0)
    intent = await till.start(invoice, Wish(PHONE, service="collection"), Tenant(), by=None)
    for _ in range(2):
        await till.sweep()
    assert (await shop.intent(intent.id)).state == "open"
    assert (await shop.row(invoice))["locked_by"] == intent.id


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_a_payment_that_ends_without_money_unlocks(shop: Shop, status: str) -> None:
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    await shop.tell(shop.news(intent, status, reason_code="declined", reason_words="No funds"))
    ended = await shop.ended(intent, "failed")
    assert (ended.reason_code, ended.reason_message) == ("declined", "No funds")
    row = await shop.row(invoice)
    assert (row["status"], row["locked_by"], row["paid_minor"]) == ("issued", None, 0)
    assert (await shop.pay(invoice)).status_code == 202


async def test_unknown_stays_locked_and_is_shown(shop: Shop) -> None:
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    unknown = shop.news(intent, "unknown", version=3)
    await shop.tell(unknown)

    async def shown() -> bool:
        return (await shop.intent(intent)).payment_status == "unknown"

    await until(shown)
    assert (await shop.row(invoice))["locked_by"] == intent
    assert (await shop.pay(invoice)).status_code == 409
    await shop.tell(shop.news(intent, "succeeded", version=4))
    await shop.ended(intent, "succeeded")


async def test_a_success_after_the_end_pays_what_is_open_and_the_rest_is_credit(
    shop: Shop,
) -> None:
    """Rule 25: a second success becomes customer credit."""
    invoice = await shop.invoice(5000)
    first = (await shop.pay(invoice)).json()["id"]
    await shop.tell(shop.news(first, "failed"))
    await shop.ended(first, "failed")
    second = (await shop.pay(invoice)).json()["id"]
    await shop.tell(shop.news(second, "succeeded"))
    await shop.ended(second, "succeeded")
    assert (await shop.row(invoice))["status"] == "paid"
    late = shop.news(first, "succeeded", version=5, late=True)
    await shop.tell(late, late)
    await shop.ended(first, "succeeded")
    assert await shop.credit(invoice) == 5000


async def test_old_news_change_no_end_and_repeats_pay_once(shop: Shop) -> None:
    invoice = await shop.invoice(5000)
    intent = (await shop.pay(invoice)).json()["id"]
    won = shop.news(intent, "succeeded", version=4)
    await shop.tell(won, shop.news(intent, "failed", version=2), won)
    await shop.ended(intent, "succeeded")
    await shop.handled(won.payment_id)
    asked = "select count(*) from invoice_payments where invoice_id = $1"
    assert await shop.value(asked, invoice) == 1 and await shop.credit(invoice) == 0


async def test_anothers_payment_with_an_intents_reference_pays_nothing(shop: Shop) -> None:
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    stranger = shop.news(intent, "succeeded", client_id=new_id("cli"), payment_id=new_id("pay"))
    own_other = shop.news(intent, "succeeded", payment_id=new_id("pay"))
    foreign = shop.news("int_" + "0" * 32, "succeeded", payment_id=new_id("pay"))
    await shop.tell(stranger, own_other, foreign)
    for one in (stranger, own_other, foreign):
        await shop.handled(one.payment_id)
    assert (await shop.intent(intent)).state == "posted"
    assert (await shop.row(invoice))["paid_minor"] == 0


async def test_news_that_never_come_are_asked_for(shop: Shop) -> None:
    """The gateway's word ends an intent when its event was lost among the dead."""
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    shop.gateway.payments[intent] |= {"status": "succeeded", "version": 4}
    async with shop.ledger.database.transaction() as tx:
        await tx.run("update payment_intents set next_at = now() where id = $1", intent)
    await shop.ended(intent, "succeeded")
    assert (await shop.row(invoice))["status"] == "paid"


async def test_parts_are_taken_only_where_the_invoice_takes_them(shop: Shop) -> None:
    whole = await shop.invoice(5000)
    answer = await shop.pay(whole, amount_minor=1000)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "amount_minor"
    parts = await shop.invoice(5000, allow_partial=True)
    first = (await shop.pay(parts, amount_minor=2000)).json()["id"]
    await shop.tell(shop.news(first, "succeeded"))
    await shop.ended(first, "succeeded")
    assert (await shop.row(parts))["status"] == "part_paid"
    beyond = await shop.pay(parts, amount_minor=3001)
    assert beyond.status_code == 422 and beyond.json()["code"] == "wrong_amount"
    rest = await shop.pay(parts)
    assert rest.json()["amount_minor"] == 3000


async def test_drafts_and_paid_invoices_are_not_paid(shop: Shop) -> None:
    draft = await shop.invoice(issued=False)
    assert (await shop.pay(draft)).json()["code"] == "invoice_not_payable"
    paid = await shop.invoice()
    intent = (await shop.pay(paid)).json()["id"]
    await shop.tell(shop.news(intent, "succeeded"))
    await shop.ended(intent, "succeeded")
    assert (await shop.pay(paid)).status_code == 409


async def test_another_client_finds_neither_invoice_nor_intent(shop: Shop) -> None:
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    mine, shop.client_id = shop.client_id, new_id("cli")
    assert (await shop.pay(invoice)).status_code == 404
    reads = shop.headers("invoices:read")
    assert (await shop.http.get(f"/internal/v1/intents/{intent}", headers=reads)).status_code == 404
    listed = await shop.http.get(f"/internal/v1/invoices/{invoice}/intents", headers=reads)
    assert listed.json()["items"] == []
    shop.client_id = mine
    reads = shop.headers("invoices:read")
    assert (await shop.http.get(f"/internal/v1/intents/{intent}", headers=reads)).status_code == 200
    live = shop.headers("invoices:read", mode="live")
    assert (await shop.http.get(f"/internal/v1/intents/{intent}", headers=live)).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"phone": "0780"}, "phone"),
        ({"phone": None}, "phone"),
        ({"phone": "+2507800\x0000"}, "phone"),
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": 2**63}, "amount_minor"),
        ({"amount_minor": "1"}, None),
        ({"service": "a b"}, "service"),
        ({"service": None}, "service"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_input_is_named(shop: Shop, changes: dict[str, Any], field: str | None) -> None:
    answer = await shop.pay(await shop.invoice(), **changes)
    assert answer.status_code == 422, answer.text
    assert field is None or field in {fault["field"] for fault in answer.json()["errors"]}


async def test_methods_are_kept_in_order_and_the_first_is_the_default(shop: Shop) -> None:
    invoice = await shop.invoice()
    url = f"/internal/v1/issuers/{shop.issuer_id}/payment-methods"
    momo = {"currency": "RWF", "service": "momo", "route": "payment", "label": "Mobile money"}
    card = {"currency": "RWF", "service": "card", "route": "payment", "label": "Card"}
    writes = shop.headers("invoices:write")
    for wanted in ([card, momo], [momo, card]):
        put = await shop.http.put(url, json={"methods": wanted}, headers=writes)
        assert put.status_code == 200, put.text
    listed = await shop.http.get(url, headers=shop.headers("invoices:read"))
    assert [m["service"] for m in listed.json()["methods"]] == ["momo", "card"]
    twice = await shop.http.put(url, json={"methods": [momo, momo]}, headers=writes)
    assert twice.status_code == 422 and twice.json()["errors"][0]["field"] == "methods"
    assert (await shop.pay(invoice, service=None)).json()["service"] == "momo"


async def test_the_database_itself_lets_no_intent_change_or_double(
    shop: Shop, worker_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    invoice = await shop.invoice()
    intent = (await shop.pay(invoice)).json()["id"]
    sql = worker_connection
    for statement in (
        "update payment_intents set amount_minor = 1 where id = $1",
        "update payment_intents set invoice_id = 'x' where id = $1",
        "delete from payment_intents where id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute(statement, intent)
    with pytest.raises(asyncpg.PostgresError) as other:
        await sql.execute("update payment_intents set payment_id = 'x' where id = $1", intent)
    assert other.value.sqlstate == "23M30"
    copied = """
        insert into payment_intents (id, invoice_id, client_id, customer_id, mode, merchant_id,
            currency, amount_minor, service, route, phone_sealed, phone_masked, next_at, not_after)
        select 'int_x', invoice_id, client_id, customer_id, mode, merchant_id, currency,
            amount_minor, service, route, '{}', phone_masked, now(), now()
        from payment_intents where id = $1"""
    with pytest.raises(asyncpg.UniqueViolationError):
        await sql.execute(copied, intent)
    await shop.tell(shop.news(intent, "succeeded"))
    await shop.ended(intent, "succeeded")
    with pytest.raises(asyncpg.PostgresError) as back:
        await sql.execute(
            "update payment_intents set state = 'posted', next_at = now(), ended_at = null "
            "where id = $1",
            intent,
        )
    assert back.value.sqlstate == "23M30"


async def test_the_phone_is_nowhere_in_clear(shop: Shop) -> None:
    shop.gateway.next = ["away"] * 50
    invoice = await shop.invoice()
    phone = "+250788123987"
    intent = (await shop.pay(invoice, phone=phone)).json()["id"]
    text = await shop.value("select i::text from payment_intents i where id = $1", intent)
    assert phone not in text and "788123" not in text
    shop.gateway.next = []
    await shop.ended(intent, "posted")
    assert shop.gateway.bodies[-1]["phone"] == phone
