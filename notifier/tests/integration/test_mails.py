"""Mails about invoices: sent once, tried again, their link made while they are composed."""

import asyncio
import datetime as dt
import email
import email.policy
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from mospay_notifier.domain import compose_mail, compose_payer_mail, mail_wait
from mospay_shared.contracts import InvoiceReminderV1, MailPayerV1, outgoing
from mospay_shared.ids import new_id

from .conftest import MakeStage, Receiver, Stage, until

TOKEN = "uN5vZ0m2qFh8x1c7Jr4kT9bW3yLpE6aD"


class Catcher:
    """An SMTP server that keeps what it takes; `refuse` answers are given first."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.refuse: list[str] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        """Take one mail."""
        if self.refuse:
            return self.refuse.pop(0)
        self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"


@pytest.fixture
async def catcher() -> AsyncIterator[tuple[Catcher, int]]:
    """A catcher on a free port."""
    made = Catcher()
    controller = Controller(made, hostname="127.0.0.1", port=0)
    server = await asyncio.get_running_loop().create_server(controller.factory, "127.0.0.1", 0)
    yield made, server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def reminder(**changes: Any) -> InvoiceReminderV1:
    """A reminder of an invoice of its own."""
    values: dict[str, Any] = {
        "invoice_id": new_id("inv"), "client_id": new_id("cli"), "mode": "live",
        "customer_id": new_id("cus"), "kind": "issued", "number": "INV-2026-000042",
        "currency": "USD", "total_minor": 1999, "open_minor": 1999, "due_on": "2026-12-05",
        "customer_name": "Zoë Müller", "customer_email": "zoe@example.com",
        "issuer_name": "Akaliza <Shop>", "issuer_email": "billing@shop.example",
        "colour": "#0b6b3a", "occurred_at": dt.datetime.now(dt.UTC),
    }  # fmt: skip
    return InvoiceReminderV1(**(values | changes))


async def mailer(stages: MakeStage, ledger: Receiver, port: int, **changes: Any) -> Stage:
    """A notifier that sends mail; its ledger makes links."""
    ledger.answers = [web.json_response({"token": TOKEN}, status=201) for _ in range(9)]
    return await stages(
        smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", mail_poll_seconds=0.05,
        ledger_url=ledger.url.removesuffix("/hook"), public_url="https://pay.example/", **changes,
    )  # fmt: skip


async def tell(stage: Stage, *news: InvoiceReminderV1) -> None:
    """Publish reminders."""
    for body in news:
        event = outgoing("invoice.reminder_due.v1", body.invoice_id, body, source="ledger")
        await stage.publish("invoice.reminder_due.v1", event.body)


async def ended(stage: Stage, told: InvoiceReminderV1, state: str) -> Any:
    """Wait until the mail of a reminder is in a state; return its row."""

    async def there() -> Any:
        rows = await stage.fetch(
            "select * from mails where invoice_id = $1 and state = $2", told.invoice_id, state
        )
        return rows[0] if rows else None

    return await until(there, f"a mail that is {state}")


async def test_a_reminder_is_one_mail_however_often_it_is_told(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int]
) -> None:
    box, port = catcher
    stage = await mailer(stages, receiver, port)
    told = reminder()
    await tell(stage, told, told)
    row = await ended(stage, told, "sent")
    await tell(stage, told)
    (mail,) = box.got
    assert mail["To"].addresses[0].addr_spec == "zoe@example.com"
    assert mail["From"].addresses[0].display_name == "Akaliza <Shop>"
    assert mail["Reply-To"].addresses[0].addr_spec == "billing@shop.example"
    text = mail.get_body(("plain",))
    page = mail.get_body(("html",))
    assert text is not None and page is not None
    assert f"https://pay.example/i/{TOKEN}" in text.get_content()
    assert "19.99 USD" in text.get_content() and "5 December 2026" in text.get_content()
    assert "Akaliza &lt;Shop&gt;" in page.get_content()
    assert TOKEN not in str(dict(row)) and "zoe@" not in str(dict(row))
    claims = receiver.got[0][0]["authorization"]
    assert claims.startswith("Bearer ")
    assert receiver.paths == [f"POST /internal/v1/invoices/{told.invoice_id}/links"]


async def test_a_server_that_is_away_gets_the_mail_later_under_the_same_id(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int]
) -> None:
    box, port = catcher
    box.refuse = ["451 later"]
    stage = await mailer(stages, receiver, port)
    told = reminder()
    await tell(stage, told)
    row = await ended(stage, told, "pending")

    async def refused() -> Any:
        rows = await stage.fetch("select error from mails where id = $1", row["id"])
        return rows[0]["error"]

    assert await until(refused, "a refusal") == "SMTPDataError"
    await stage.run("update mails set next_at = now() where id = $1", row["id"])
    await ended(stage, told, "sent")
    assert box.got[0]["Message-ID"].startswith(f"<{row['id']}@")
    assert len(receiver.got) == 2, "a link of its own each time"


@pytest.mark.parametrize("status", [404, 409])
async def test_nobody_is_reminded_of_what_is_paid(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int], status: int
) -> None:
    box, port = catcher
    stage = await mailer(stages, receiver, port)
    receiver.answers = [web.json_response({"code": "invoice_not_payable"}, status=status)]
    told = reminder()
    await tell(stage, told)
    await ended(stage, told, "dropped")
    assert not box.got


async def test_without_a_server_a_mail_says_so(stages: MakeStage) -> None:
    stage = await stages(mail_poll_seconds=0.05)
    told = reminder()
    await tell(stage, told)
    assert (await ended(stage, told, "dropped"))["error"] == "no SMTP server is configured"


@pytest.mark.parametrize("address", ["nobody", "a@b\r\nBcc: x@y.z", "@", "a b@c.d"])
def test_an_address_no_mail_can_go_to_is_not_repeated(address: str) -> None:
    with pytest.raises(ValueError) as refused:
        compose_mail(reminder(customer_email=address), mail_id="mail_1", sender="a@b.c", link="l")
    assert address not in str(refused.value)


@pytest.mark.parametrize("kind", ["issued", "before_due", "due", "overdue"])
def test_names_are_text_and_never_headers_or_markup(kind: str) -> None:
    told = reminder(kind=kind, customer_name="Eve\r\nBcc: a@b.c <b>", mode="test", currency="XXX")
    mail = compose_mail(told, mail_id="mail_1", sender="pay@mospay.example", link="https://x/i/t")
    assert mail["Bcc"] is None and mail["Subject"].startswith("[Test] ")
    assert "<b>" not in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]


def test_mails_are_tried_over_about_a_day() -> None:
    waits = [mail_wait(n) for n in range(1, 10)]
    assert waits[0] == 300 and waits == sorted(waits) and max(waits) == 6 * 3600
    assert 20 * 3600 < sum(waits) < 48 * 3600


def wish(**changes: Any) -> MailPayerV1:
    """A payer's link that is to be mailed."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "mail_id": new_id("pln"), "kind": "invite", "customer_id": new_id("cus"),
        "client_id": new_id("cli"), "mode": "live", "customer_name": "Zoë Müller",
        "customer_email": "zoe@example.com", "locale": "en", "issuer_name": "Akaliza <Shop>",
        "issuer_email": "billing@shop.example", "colour": "#0b6b3a",
        "valid_until": now + dt.timedelta(days=7), "occurred_at": now,
    }  # fmt: skip
    return MailPayerV1(**(values | changes))


async def wish_for(stage: Stage, *wishes: MailPayerV1, **more: Any) -> None:
    """Send the command portal-api sends."""
    for body in wishes:
        made = outgoing("payers.mail.v1", body.mail_id, body, source="portal-api")
        event = orjson.loads(made.body)
        event["data"] |= more
        pack = orjson.dumps(event)
        await stage.publish("payers.mail.v1", pack, exchange="mospay.commands")


async def over(stage: Stage, told: MailPayerV1, state: str) -> Any:
    """Wait until a payer's mail is in a state; return its row."""

    async def there() -> Any:
        rows = await stage.fetch(
            "select * from payer_mails where id = $1 and state = $2", told.mail_id, state
        )
        return rows[0] if rows else None

    return await until(there, f"a payer's mail that is {state}")


async def payer_post(stages: MakeStage, portal: Receiver, port: int) -> Stage:
    """A notifier that sends payers' mails; its portal-api makes links."""
    path = f"/portal/invite/{TOKEN}"
    portal.answers = [web.json_response({"path": path}, status=201) for _ in range(9)]
    return await stages(
        smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", mail_poll_seconds=0.05,
        portal_url=portal.url.removesuffix("/hook"), public_url="https://pay.example/",
    )  # fmt: skip


async def test_a_payers_link_is_one_mail_however_often_it_is_asked_and_kept_nowhere(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int]
) -> None:
    box, port = catcher
    stage = await payer_post(stages, receiver, port)
    told = wish()
    await wish_for(stage, told, told, field_of_tomorrow=1)
    row = await over(stage, told, "sent")
    await wish_for(stage, told)
    (mail,) = box.got
    assert mail["To"].addresses[0].addr_spec == "zoe@example.com"
    assert mail["Subject"] == "Akaliza <Shop>: your invoices online"
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None and page is not None
    assert f"https://pay.example/portal/invite/{TOKEN}" in text.get_content()
    assert "Akaliza &lt;Shop&gt;" in page.get_content()
    assert TOKEN not in str(dict(row)) and "zoe@" not in str(dict(row))
    assert receiver.paths == [f"POST /internal/v1/payer-links/{told.mail_id}/token"]


async def test_a_payers_link_that_is_over_is_mailed_to_nobody(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int]
) -> None:
    box, port = catcher
    stage = await payer_post(stages, receiver, port)
    receiver.answers = [web.json_response({"code": "link_ended"}, status=409)]
    void, late = wish(), wish(valid_until=dt.datetime.now(dt.UTC))
    await wish_for(stage, void, late)
    for told in (void, late):
        row = await over(stage, told, "dropped")
        assert "zoe@" not in str(dict(row))
    assert not box.got and len(receiver.got) == 1


async def test_a_malformed_wish_is_dead_and_the_next_is_sent(
    stages: MakeStage, receiver: Receiver, catcher: tuple[Catcher, int]
) -> None:
    _, port = catcher
    stage = await payer_post(stages, receiver, port)
    bad, good = wish(), wish()
    await wish_for(stage, bad, kind="dream")
    await wish_for(stage, good)
    await over(stage, good, "sent")
    (row,) = await stage.fetch("select state, reason from inbox where subject = $1", bad.mail_id)
    assert row["state"] == "dead" and "kind" in row["reason"]


@pytest.mark.parametrize("locale", ["en", "fr-RW", "sw"])
@pytest.mark.parametrize("kind", ["invite", "reset", "verify"])
def test_payers_mails_speak_their_language_and_names_are_never_markup(
    kind: str, locale: str
) -> None:
    told = wish(kind=kind, locale=locale, customer_name="Eve\r\nBcc: a@b.c <b>", mode="test")
    mail = compose_payer_mail(told, sender="pay@mospay.example", link="https://x/p")
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None and page is not None
    assert mail["Bcc"] is None and mail["Subject"].startswith("[Test] ")
    assert "<b>" not in page.get_content() and "https://x/p" in text.get_content()
    assert text.get_content().startswith("Bonjour" if locale == "fr-RW" else "Hello")
