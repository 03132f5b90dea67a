"""Rules of delivery: what is told, how it is signed, when it is tried again. Pure."""

import base64
import datetime as dt
import email.errors
import email.policy
import hmac
import html
import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from mospay_shared.contracts import (
    InvoiceReminderV1,
    MailPayerV1,
    PaymentStatus,
    PayoutStatus,
    RefundStatus,
)
from mospay_shared.contracts.invoices import CUSTOMER_NEWS, INVOICE_NEWS
from mospay_shared.money import MoneyError, format_minor

URL_LIMIT = 2000  # characters
RETRY_AFTER_LIMIT_SECONDS = 24 * 3600.0  # a receiver can't push us out further
JITTER = 0.1
TEST_EVENT = "endpoint.test"  # sent on request alone, whatever the endpoint's filter
# Everything there is to be told of; a filter may name these and no others.
EVENTS = frozenset(
    {
        "payment.accepted",
        *(f"payment.{status}" for status in PaymentStatus),
        *(f"refund.{status}" for status in RefundStatus),
        "settlement.processed",
        "settlement.reserve_released",
        *(f"payout.{status}" for status in PayoutStatus),
        *(f"invoice.{news}" for news in INVOICE_NEWS),
        *(f"customer.{news}" for news in CUSTOMER_NEWS),
    }
)
# What is told unless an endpoint asks for more: news a merchant acts on.
DEFAULT_EVENTS = frozenset(
    {
        "payment.succeeded", "payment.failed", "payment.cancelled", "payment.expired",
        "payment.conflicted", "payment.unknown", "payment.held",
        "payment.requires_customer_action",
        "refund.succeeded", "refund.failed", "refund.unknown",
        "settlement.processed", "payout.paid", "payout.failed", "payout.returned",
        "invoice.part_paid", "invoice.paid", "invoice.overdue",
    }
)  # fmt: skip


class NotifierError(Exception):
    """Base of what the notifier refuses; `code` is stable."""

    code = "notifier_error"


class EndpointRefused(NotifierError):
    """An endpoint that can't be taken; `field` names what is wrong with it."""

    code = "invalid_endpoint"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class TooManyEndpoints(NotifierError):
    """A client has as many endpoints as it may."""

    code = "too_many_endpoints"


_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")  # as urlsplit gives it: no brackets, no zone


def check_url(url: str, *, plain_allowed: bool) -> None:
    """Raise EndpointRefused unless a URL is one we may deliver to (the socket checks addresses)."""

    def refuse(reason: str) -> EndpointRefused:
        return EndpointRefused("url", reason)

    if len(url) > URL_LIMIT:
        raise refuse(f"is longer than {URL_LIMIT} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refuse("must be ASCII without spaces; encode other characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refuse("has no readable host and port") from error
    if parts.scheme not in ("https", "http") or not _HOST.fullmatch(parts.hostname or ""):
        raise refuse("must be an absolute https:// address")
    if port == 0:
        raise refuse("has no readable host and port")
    if parts.scheme == "http" and not plain_allowed:
        raise refuse("must be https://; plain http is for development only")
    if "@" in parts.netloc:
        raise refuse("must carry no user name or password")
    if parts.fragment:
        raise refuse("must carry no fragment")


def check_event_types(event_types: Sequence[str]) -> None:
    """Raise EndpointRefused for a filter with an event there is not: it would wait for ever."""
    for number, name in enumerate(event_types):
        if name not in EVENTS:
            known = ", ".join(sorted(EVENTS))
            raise EndpointRefused(f"event_types.{number}", f"is none of {known}")


def new_secret() -> str:
    """Return a fresh endpoint secret, `whsec_…` (Standard Webhooks 1.0)."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def event_name(wire_type: str) -> str:
    """Return the public name of a wire type: `payment.succeeded.v1` → `payment.succeeded`."""
    return wire_type.rpartition(".v")[0]


def wants(event_types: Sequence[str], name: str) -> bool:
    """Say whether an endpoint is told of an event; an empty filter means the default news."""
    if not event_types:
        return name in DEFAULT_EVENTS
    return name in event_types


def sign(secret_list: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one `v1,<base64>` a secret (Standard Webhooks)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
        for secret in secret_list
    )


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt means: the delivery's next state, when again, and what to do about it."""

    state: str  # delivered | pending | failed
    next_at: dt.datetime | None
    disable: bool = False


def judge(
    attempt: int,
    status_code: int | None,
    retry_after_seconds: float | None,
    schedule: Sequence[float],
    now: dt.datetime,
) -> Verdict:
    """Judge attempt number `attempt` (from 1). Only 2xx is success; 410 disables the endpoint.

    429 and 503 may ask for a longer wait, within a day. After the schedule's end it has failed.
    """
    if status_code is not None and 200 <= status_code < 300:
        return Verdict("delivered", None)
    if status_code == 410:
        return Verdict("failed", None, disable=True)
    if attempt >= len(schedule):
        return Verdict("failed", None)
    wait = schedule[attempt] * (1 + random.uniform(0, JITTER))
    if status_code in (429, 503) and retry_after_seconds is not None:
        wait = max(wait, min(retry_after_seconds, RETRY_AFTER_LIMIT_SECONDS))
    return Verdict("pending", now + dt.timedelta(seconds=wait))


def parse_retry_after(value: str | None, now: dt.datetime) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3); None if it is unclear.

    Both forms are read: a number of seconds, and a date.
    """
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,8}", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=dt.UTC)
    return max(0.0, (until - now).total_seconds())


MAIL_WAIT_SECONDS, MAIL_WAIT_LIMIT_SECONDS = 300.0, 6 * 3600.0
_MAILS = {
    "issued": ("Invoice {number} from {issuer}", "you have an invoice of {open}, due on {due}."),
    "before_due": ("Invoice {number} is due on {due}", "{open} of this invoice is due on {due}."),
    "due": ("Invoice {number} is due", "{open} of this invoice was due on {due}."),
    "overdue": ("Invoice {number} is overdue", "{open} of this invoice has been due since {due}."),
}


# By language and kind: subject, body, button, foot. Another language is another entry.
PAYER_MAILS = {
    "en": {
        "frame": ("Hello {who},", "Open this link:"),
        "invite": (
            "{issuer}: your invoices online",
            "{issuer} lets you see and pay your invoices online. Choose a password to begin.",
            "Choose a password",
            "The link works once, for 7 days. Don't pass it on: it opens your account.",
        ),
        "reset": (
            "{issuer}: a new password",
            "Somebody, most likely you, asked for a new password of your account.",
            "Choose a new password",
            "The link works once, for 30 minutes. If it was not you, do nothing.",
        ),
        "verify": (
            "{issuer}: is this your address?",
            "This address is to be the one of your account from now on. Is it yours?",
            "Use this address",
            "The link works once, for a day. If you did not ask for it, do nothing.",
        ),
    },
    "fr": {
        "frame": ("Bonjour {who},", "Ouvrez ce lien\u00a0:"),
        "invite": (
            "{issuer}\u00a0: vos factures en ligne",
            "{issuer} vous permet de voir et de payer vos factures en ligne. "
            "Choisissez un mot de passe pour commencer.",
            "Choisir un mot de passe",
            "Le lien sert une fois, pendant 7 jours. Ne le transmettez pas\u00a0: "
            "il ouvre votre compte.",
        ),
        "reset": (
            "{issuer}\u00a0: un nouveau mot de passe",
            "Quelqu’un, sans doute vous, a demandé un nouveau mot de passe pour votre compte.",
            "Choisir un nouveau mot de passe",
            "Le lien sert une fois, pendant 30 minutes. Si ce n’était pas vous, ne faites rien.",
        ),
        "verify": (
            "{issuer}\u00a0: est-ce votre adresse\u202f?",
            "Cette adresse doit devenir celle de votre compte. Est-ce la vôtre\u202f?",
            "Utiliser cette adresse",
            "Le lien sert une fois, pendant un jour. Si vous n’avez rien demandé, ne faites rien.",
        ),
    },
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a mail says around its link."""

    subject: str
    hello: str
    body: str
    before: str
    button: str
    footer: str
    language: str = "en"


def mail_wait(attempts: int) -> float:
    """Return the seconds before a mail is tried again: five minutes, doubling, six hours."""
    return min(MAIL_WAIT_SECONDS * float(2 ** (attempts - 1)), MAIL_WAIT_LIMIT_SECONDS)


def _line(text: str) -> str:
    """Return text that fits one header or line: no control characters."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()


def _address(name: str, spec: str) -> Address:
    try:
        return Address(name, addr_spec=spec)
    except (ValueError, IndexError, email.errors.MessageError):
        raise ValueError("there is an address no mail can go to") from None  # which is not said


def compose_mail(told: InvoiceReminderV1, *, mail_id: str, sender: str, link: str) -> EmailMessage:
    """Return a mail about an invoice, as text and HTML; its id is the same at every try.

    Raises ValueError for an address no mail can go to.
    """
    try:
        amount = f"{format_minor(told.open_minor, told.currency)} {told.currency}"
    except MoneyError:
        amount = f"{told.open_minor} minor units of {told.currency}"
    due = f"{told.due_on.day} {told.due_on:%B %Y}"
    words = {
        "number": told.number, "issuer": _line(told.issuer_name), "open": amount, "due": due,
    }  # fmt: skip
    subject, body = (text.format(**words) for text in _MAILS[told.kind])
    said = Said(
        subject=subject,
        hello=f"Hello {_line(told.customer_name)},",
        body=body,
        before="See it, download it or pay it here:",
        button="See and pay the invoice",
        footer="Whoever has this link sees the invoice and can pay it: pass it on with care.",
    )
    return _letter(told, said, mail_id=mail_id, sender=sender, link=link)


def compose_payer_mail(told: MailPayerV1, *, sender: str, link: str) -> EmailMessage:
    """Return a mail with a payer's link, in the payer's language; raises as `compose_mail`."""
    language = told.locale.partition("-")[0]
    phrases = PAYER_MAILS.get(language, PAYER_MAILS["en"])
    names = {"issuer": _line(told.issuer_name), "who": _line(told.customer_name)}
    subject, body, button, footer = (text.format(**names) for text in phrases[told.kind])
    hello, before = (text.format(**names) for text in phrases["frame"])
    said = Said(subject, hello, body, before, button, footer, language)
    return _letter(told, said, mail_id=told.mail_id, sender=sender, link=link)


def _letter(
    told: InvoiceReminderV1 | MailPayerV1, said: Said, *, mail_id: str, sender: str, link: str
) -> EmailMessage:
    issuer = _line(told.issuer_name)
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = ("[Test] " if told.mode == "test" else "") + said.subject
    mail["From"] = _address(issuer, sender)
    mail["To"] = _address(_line(told.customer_name), told.customer_email)
    if told.issuer_email:
        mail["Reply-To"] = _address(issuer, told.issuer_email)
    mail["Message-ID"] = f"<{mail_id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(
        f"{said.hello}\n\n{said.body}\n\n{said.before}\n{link}\n\n{said.footer}\n\n{issuer}\n"
    )
    safe = {
        name: html.escape(value)
        for name, value in (
            ("hello", said.hello), ("body", said.body), ("button", said.button),
            ("footer", said.footer), ("link", link), ("from", issuer),
        )
    }  # fmt: skip
    colour = told.colour if re.fullmatch(r"#[0-9a-f]{6}", told.colour) else "#1f4b99"
    mail.add_alternative(
        f'<!doctype html><html lang="{said.language}"><body style="margin:0;padding:24px;'
        'background:#f7f8fa;font:16px/1.5 system-ui,sans-serif;color:#1a2230">'
        '<div style="max-width:480px;margin:0 auto;background:#fff;border:1px solid #e1e5eb;'
        f'border-top:4px solid {colour};border-radius:12px;padding:24px">'
        f'<p style="font-weight:600" dir="auto">{safe["from"]}</p>'
        f'<p dir="auto">{safe["hello"]}</p><p>{safe["body"]}</p>'
        f'<p><a href="{safe["link"]}" style="display:inline-block;padding:12px 20px;'
        f"border:2px solid {colour};border-radius:10px;color:#1a2230;font-weight:600;"
        f'text-decoration:none">{safe["button"]}</a></p>'
        f'<p style="color:#5a6577;font-size:14px">{safe["footer"]}</p></div></body></html>',
        subtype="html",
    )
    return mail
