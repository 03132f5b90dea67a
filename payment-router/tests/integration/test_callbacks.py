"""Callbacks: stored first, believed once and only when signed; a forgery can only make us ask."""

import hmac
from typing import Any

import httpx
import orjson
import pytest
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, success, until

SECRET = "callback-secret"
NAME = "ROUTER_CALLBACK_SECRET_PROV"
SIGNED = {"authoritative_enquiry": True, "callback_secret_env": NAME}


@pytest.fixture(autouse=True)
def secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, SECRET)


def body(reference: str, outcome: str = "succeeded", **more: Any) -> bytes:
    told = {"reference": reference, "outcome": outcome, "amount": "1000", "event_id": new_id("e")}
    return orjson.dumps(told | {"provider_reference": "cb_1"} | more)


def sign(raw: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Signature": hmac.new(secret.encode(), raw, "sha256").hexdigest()}


async def pending(
    stage: Stage, provider: Answering, connector: Any = SIGNED, enquiry: str = "pending"
) -> tuple[Merchant, str]:
    """A payment its provider has not decided; enquiries go on saying so."""
    provider.plays["payment"] = [lambda _: (202, {"outcome": "pending"})]
    provider.plays["enquiry"] = [lambda r: (200, {"outcome": enquiry, "reference": r})]
    merchant = await stage.merchant(provider.url, connector=connector)
    payment_id = await stage.pay(merchant)

    async def answered() -> bool:
        row = await stage.database.fetchrow(
            "select state from attempts where payment_id = $1", payment_id
        )
        return row is not None and row["state"] == "unknown"

    await until(answered)
    return merchant, payment_id


async def state_of(stage: Stage, callback_id: str) -> str:
    """Wait until a callback has found its end and return that."""

    async def ended() -> Any:
        row = await stage.database.fetchrow(
            "select state from callbacks where id = $1 and state <> 'new'", callback_id
        )
        return row["state"] if row else None

    found: str = await until(ended)
    return found


async def test_signed_callback_ends_a_payment(stage: Stage, provider: Answering) -> None:
    merchant, payment_id = await pending(stage, provider)
    raw = body(payment_id)
    callback_id = await stage.callback(merchant.microservice, raw, sign(raw))
    row = await stage.ends(payment_id, "succeeded")
    assert row["provider_reference"] == "cb_1"
    assert await state_of(stage, callback_id) == "applied"
    told = await stage.told(payment_id, 1)
    assert told[-1]["data"]["attempt_id"] == (await stage.attempt(payment_id))["id"]


async def test_repeated_callback_is_applied_once(stage: Stage, provider: Answering) -> None:
    merchant, payment_id = await pending(stage, provider)
    raw = body(payment_id)
    ids = [await stage.callback(merchant.microservice, raw, sign(raw)) for _ in range(3)]
    states = sorted([await state_of(stage, callback_id) for callback_id in ids])
    assert states == ["applied", "repeated", "repeated"]
    assert (await stage.ends(payment_id, "succeeded"))["version"] == 2


async def test_forged_callback_first_does_not_shadow_the_genuine_one(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await pending(stage, provider)
    event = new_id("e")
    forged = body(payment_id, "failed", event_id=event)
    first = await stage.callback(merchant.microservice, forged, sign(forged, "guess"))
    assert await state_of(stage, first) == "asked"
    assert (await stage.payment(payment_id) or {})["status"] == "processing"
    raw = body(payment_id, event_id=event)
    await stage.callback(merchant.microservice, raw, sign(raw))
    await stage.ends(payment_id, "succeeded")


async def test_unsigned_callback_only_asks_the_provider(stage: Stage, provider: Answering) -> None:
    merchant, payment_id = await pending(stage, provider, connector={})
    await stage.database.execute(
        "update payments set next_action_at = now() + interval '1 h' where id = $1", payment_id
    )
    provider.plays["enquiry"] = [success]
    callback_id = await stage.callback(merchant.microservice, body(payment_id, "failed"), {})
    row = await stage.ends(payment_id, "succeeded")
    assert row["provider_reference"] == f"prov_{payment_id}"
    assert await state_of(stage, callback_id) == "asked"


async def test_unsigned_callback_about_a_failed_payment_finds_the_late_success(
    stage: Stage, simulator: str
) -> None:
    merchant = await stage.merchant(simulator, connector={})
    payment_id = await stage.pay(merchant, phone="+250780000013")
    await stage.ends(payment_id, "failed")

    async with httpx.AsyncClient(base_url=simulator) as http:

        async def paid() -> bool:
            answer = await http.get("/_effects", params={"reference": payment_id})
            return bool(answer.json()["effects"])

        await until(paid)
    await stage.callback(merchant.microservice, body(payment_id), {})
    row = await stage.ends(payment_id, "succeeded")
    assert (row["late"], row["next_action_at"]) == (True, None)


async def test_callback_before_its_payment_is_matched_later(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["payment"] = [lambda _: (202, {"outcome": "pending"})]
    provider.plays["enquiry"] = [lambda _: (200, {"outcome": "pending"})]
    merchant = await stage.merchant(provider.url, connector=SIGNED)
    command = stage.command(merchant)
    raw = body(command.payment_id)
    callback_id = await stage.callback(merchant.microservice, raw, sign(raw))

    async def tried() -> bool:
        tries: int = (
            await stage.database.fetchval(
                "select max(tries) from callbacks where id = $1", callback_id
            )
            or 0
        )
        return tries >= 1

    await until(tried)
    await stage.process(command)
    await stage.ends(command.payment_id, "succeeded")


async def test_callback_that_matches_nothing_is_listed_as_unmatched(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    for raw in (body(new_id("pay")), b"not json", b"[]", b'{"reference": 7}', b""):
        callback_id = await stage.callback(merchant.microservice, raw, {})
        assert await state_of(stage, callback_id) == "unmatched"
        row = await stage.database.fetchrow(
            "select body, reason from callbacks where id = $1", callback_id
        )
        assert row["body"] == raw
        assert row["reason"]


async def test_callback_of_another_microservice_is_not_matched(
    stage: Stage, provider: Answering
) -> None:
    _, payment_id = await pending(stage, provider)
    other = await stage.merchant(provider.url, connector=SIGNED)
    raw = body(payment_id)
    callback_id = await stage.callback(other.microservice, raw, sign(raw))
    assert await state_of(stage, callback_id) == "unmatched"
    assert (await stage.payment(payment_id) or {})["status"] == "processing"


async def test_signed_callback_with_another_amount_conflicts(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await pending(stage, provider)
    raw = body(payment_id, amount="900")
    await stage.callback(merchant.microservice, raw, sign(raw))
    assert (await stage.ends(payment_id, "conflicted"))["attention"] == "conflicted"


async def test_reordered_pending_after_success_changes_nothing(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id = await pending(stage, provider)
    raw = body(payment_id)
    await stage.callback(merchant.microservice, raw, sign(raw))
    await stage.ends(payment_id, "succeeded")
    later = body(payment_id, "pending")
    callback_id = await stage.callback(merchant.microservice, later, sign(later))
    assert await state_of(stage, callback_id) == "applied"
    row = await stage.ends(payment_id, "succeeded")
    assert (row["version"], row["attention"]) == (2, None)


async def test_body_that_is_not_base64_is_dead(stage: Stage) -> None:
    from mospay_payment_router.usecases.callbacks import store
    from mospay_shared.contracts import Envelope, Event, PaymentCallbackV1

    told = PaymentCallbackV1(
        callback_id="c", microservice="m", method="POST", headers={}, body_base64="%%%",
        received_at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
    )  # fmt: skip
    envelope = Envelope(
        id="evt_1", source="x", type="payments.callback.v1", subject="c",
        time="2026-01-01T00:00:00Z", data={},  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(Permanent):
        async with stage.service.database.transaction() as tx:
            await store(tx, [Event(envelope, told)])
