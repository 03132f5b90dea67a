"""What the pages behind a guest link are made of: limits, form tokens, colours, words. Pure."""

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mospay_shared.money import MoneyError, parse_minor

from mospay_portal_api.domain.languages import ENGLISH, Language

TOKEN = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)
PHONE = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.ASCII)
DEFAULT_COLOUR = "#0b5cd5"
CONTRAST = 4.5  # WCAG 2.2 AA for text
LIGHT, DARK = "#ffffff", "#161d28"  # surfaces of the two themes
WINDOW_SECONDS = 60
# Icon and tone; the word is the language's: never colour alone.
STATES = {
    "paid": ("✓", "success"),
    "part_paid": ("◐", "pending"),
    "overdue": ("⚠", "failed"),
    "issued": ("◷", "pending"),
    "void": ("⊘", "neutral"),
}


def digest_of(token: str) -> str:
    """Return what the ledger knows a link by; the token itself goes nowhere."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass
class Windows:
    """Calls of a minute by who made them; beyond `capacity` all newcomers share one window."""

    capacity: int
    _minute: int = -1
    _counts: dict[str, int] = field(default_factory=dict)

    def allows(self, key: str, limit: int, seconds: float) -> bool:
        """Count a call at an instant (seconds of the clock) and say whether it is within limits."""
        minute = int(seconds // WINDOW_SECONDS)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        if key not in self._counts and len(self._counts) >= self.capacity:
            key = "others"
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] <= limit


def form_token(key: bytes, cookie: str, digest: str) -> str:
    """Return what a form of a link carries: only who has the page's cookie can have it."""
    return hmac.digest(key, f"{cookie}\0{digest}".encode(), "sha256").hex()


def form_holds(key: bytes, cookie: str | None, digest: str, given: str) -> bool:
    """Say whether a form was made for the browser and the link that send it."""
    if not cookie:
        return False
    made = form_token(key, cookie, digest).encode()
    return hmac.compare_digest(made, given.encode(errors="replace"))


def _channels(colour: str) -> list[float]:
    return [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]


def _luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def readable(colour: str, surface: str) -> str:
    """Return a brand's colour, moved away from the surface as far as text on it needs."""
    colour = colour if _COLOUR.fullmatch(colour) else DEFAULT_COLOUR
    towards = 0.0 if _luminance(surface) > 0.5 else 1.0
    for step in range(21):
        share = step / 20
        mixed = "#" + "".join(
            f"{round((c + (towards - c) * share) * 255):02x}" for c in _channels(colour)
        )
        if contrast(mixed, surface) >= CONTRAST:
            return mixed
    raise AssertionError("black and white are always readable")


def on(colour: str) -> str:
    """Return the text colour for a button of a colour."""
    return max("#ffffff", "#0b1830", key=lambda text: contrast(text, colour))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a payer filled in, as it goes to the ledger, and what is wrong with it by field."""

    body: dict[str, Any]
    faults: dict[str, str]


def read_form(form: Mapping[str, str], invoice: Mapping[str, Any], language: Language) -> Wanted:
    """Read the pay form of an invoice; spaces, dashes and brackets of a phone are forgiven."""
    body: dict[str, Any] = {}
    faults: dict[str, str] = {}
    phone = re.sub(r"[\s().-]", "", form.get("phone", ""))
    if PHONE.fullmatch(phone):
        body["phone"] = phone
    else:
        faults["phone"] = language.say("form.wrong_phone")
    services = [method["service"] for method in invoice["methods"]]
    service = form.get("service")
    if service in services:
        body["service"] = service
    elif service or not services:
        faults["service"] = language.say("form.wrong_service")
    given = language.plain(form.get("amount", ""))
    if given and invoice["allow_partial"]:
        try:
            amount = parse_minor(given, invoice["currency"])
        except MoneyError:
            amount = 0
        if 0 < amount <= invoice["open_minor"]:
            body["amount_minor"] = amount
        else:
            most = language.money(invoice["open_minor"], invoice["currency"])
            faults["amount"] = language.say("form.wrong_amount", money=most)
    return Wanted(body, faults)


def told(problem: Mapping[str, Any], shown: Collection[str], language: Language) -> dict[str, str]:
    """Return the ledger's refusal in words, by field; `form` for what has no field `shown`.

    The house gives its reasons in English; another language has words of its own for their codes.
    """
    names = {"phone": "phone", "service": "service", "amount_minor": "amount"}
    found: dict[str, str] = {}
    errors = problem.get("errors")
    for fault in errors if isinstance(errors, list) else []:
        name = names.get(str(fault.get("field")), "form")
        why: str | None = str(fault.get("message", ""))[:200]
        if language.code != ENGLISH:
            why = language.translated("refusals", str(fault.get("code")))
        if name in shown:
            phrase = "form.field_not_accepted" if why else "form.not_accepted"
            found[name] = language.say(phrase, why=why)
        elif name == "amount" and why:
            found["form"] = language.say("form.amount_not_accepted", why=why)
    return found or {"form": language.say("form.not_accepted")}


def reason(payment: Mapping[str, Any] | None, language: Language) -> str:
    """Return why a payment failed, a sentence; empty where this language has no words for it."""
    if payment is None:
        return ""
    if language.code != ENGLISH:
        return language.translated("reasons", payment.get("reason_code")) or ""
    message = str(payment.get("reason_message") or "").rstrip(" .")
    return message and message + "."


def outcome(payment: Mapping[str, Any] | None, *, locked: bool) -> str:
    """Return how the latest payment goes: none, processing, succeeded, failed or unknown."""
    if payment is None:
        return "none"
    if locked and payment["state"] in ("open", "posted"):
        waits = payment.get("payment_status") in ("unknown", "conflicted", "held")
        return "unknown" if waits else "processing"
    return {"succeeded": "succeeded"}.get(payment["state"], "failed")
