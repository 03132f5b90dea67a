"""From what a caller sent to a payment that may be accepted: every fault named at once."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mospay_shared.money import MAX_MINOR, MoneyError, format_minor, parse_minor

from mospay_gateway.domain.catalogue import Catalogue, ClientApp, Offer
from mospay_gateway.domain.daily import Daily, local_day
from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.domain.fields import is_phone, named
from mospay_gateway.domain.payments import Payment

SECRET_CODES = frozenset({"f007", "f008"})
BASE_CODES = frozenset(f"f{n:03}" for n in range(11))
CODE = re.compile(r"f[0-9]{3}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LENGTHS = {"f007": 4096, "f008": 4096}  # characters; every other field: DEFAULT_LENGTH
DEFAULT_LENGTH = 255
FIELD_COUNT = 60


@dataclass(slots=True)
class Entry:
    """A request as it came, by field code; `names` says what the caller calls each code.

    `faults` are those of its shape; a field that has one is not looked at again. `amount_minor`
    and `currency` are given by /v1 alone; the field API gives a decimal string in f004.
    """

    values: dict[str, str]
    names: Mapping[str, str]
    amount_minor: int | None = None
    currency: str | None = None
    customer_id: str | None = None
    product_id: str | None = None
    product_name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def name(self, code: str) -> str:
        """Return what the caller calls a field."""
        return self.names.get(code) or self.names["*"].format(code)

    def fault(self, code: str, kind: str, message: str) -> None:
        """Note a fault of a field."""
        self.fault_at(self.name(code), kind, message)

    def fault_at(self, name: str, kind: str, message: str) -> None:
        """Note a fault of what the caller calls `name`."""
        self.faults.append(Fault(name, kind, message))

    def faulty(self, code: str) -> bool:
        """Say whether a field already has a fault."""
        name = self.name(code)
        return any(fault.field == name for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. `device` is used where the request has no f009."""

    request_id: str
    received_at: dt.datetime
    ip: str | None = None
    device: str | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid request: what a payment is made from."""

    caller: ClientApp
    offer: Offer
    route: str
    amount_minor: int
    reference: str
    fields: dict[str, str]
    secrets: dict[str, str]
    customer_id: str | None
    product_id: str | None
    product_name: str | None
    metadata: dict[str, str]

    def payment(
        self, payment_id: str, origin: Origin, accepted_via: str, accepted_at: dt.datetime
    ) -> Payment:
        """Make the payment; what it was accepted with is pinned on it."""
        service = self.offer.service
        window = dt.timedelta(seconds=service.payer_window_seconds)
        return Payment(
            id=payment_id,
            client_id=self.caller.client_id,
            mode=self.caller.mode,
            app_id=self.caller.app_id,
            service_id=service.service_id,
            microservice=service.microservice,
            service=service.name,
            route=self.route,
            amount_minor=self.amount_minor,
            currency=service.currency,
            reference=self.reference,
            fields=self.fields,
            metadata=self.metadata,
            customer_id=self.customer_id,
            product_id=self.product_id,
            product_name=self.product_name,
            directory_version=self.offer.directory_version,
            accepted_via=accepted_via,
            request_id=origin.request_id,
            received_at=origin.received_at,
            accepted_at=accepted_at,
            send_before=accepted_at + window,
            retry_of=origin.retry_of,
            ip=origin.ip,
            device=self.fields.get("f009") or origin.device,
            masked=sorted(self.offer.rules.masked & self.fields.keys()),
        )

    @property
    def own_fields(self) -> dict[str, str]:
        """The fields the service defines beyond f010, by which payments can be found."""
        return {code: value for code, value in self.fields.items() if code not in BASE_CODES}

    def daily(self, accepted_at: dt.datetime, phone_hash: bytes | None) -> Daily | None:
        """Return what the payment has to fit in today; None where no daily limit is set."""
        limits = self.offer.limits
        if limits.daily_minor is None and limits.daily_phone_minor is None:
            return None
        day = local_day(accepted_at, self.caller.client.time_zone)
        return Daily(day, limits.daily_minor, limits.daily_phone_minor, phone_hash)


def text_faults(code: str, value: str) -> list[tuple[str, str]]:
    """Return (kind, message) of what is wrong with any field's text, whoever defines it."""
    faults = []
    limit = LENGTHS.get(code, DEFAULT_LENGTH)
    if len(value) > limit:
        faults.append(("too_long", f"has more than {limit} characters"))
    if _CONTROL.search(value):
        faults.append(("control_character", "must not contain control characters"))
    return faults


def make_draft(entry: Entry, caller: ClientApp, catalogue: Catalogue) -> Draft:
    """Check an entry against the directory; raises InvalidRequest with all its faults."""
    values = entry.values
    for code in [c for c, value in values.items() if text_faults(c, value)]:
        for kind, message in text_faults(code, values[code]):
            entry.fault(code, kind, message)
    offer = _offer(entry, caller, catalogue)
    if not values.get("f010") and not entry.faulty("f010"):
        entry.fault("f010", "required", "is required")
    if offer is None:
        _phone(entry, required=False)
        raise InvalidRequest(entry.faults)
    _route(entry, offer)
    amount_minor = _amount(entry, offer)
    _phone(entry, required=offer.rules.required("f005", True))
    _definitions(entry, offer)
    if entry.faults or amount_minor is None:
        raise InvalidRequest(entry.faults)
    secret = {c for c in values if c in SECRET_CODES or offer.rules.secret(c)}
    service = offer.service
    fixed = {
        "f000": service.microservice,
        "f001": service.name,
        "f003": caller.app_id,
        "f004": format_minor(amount_minor, service.currency),
    }
    if entry.amount_minor is None:
        fixed["f004"] = values["f004"]  # as it was sent: 1000.00 stays 1000.00
    return Draft(
        caller=caller,
        offer=offer,
        route=values["f002"],
        amount_minor=amount_minor,
        reference=values["f010"],
        fields={c: v for c, v in values.items() if v and c not in secret} | fixed,
        secrets={c: values[c] for c in secret if values[c]},
        customer_id=entry.customer_id,
        product_id=entry.product_id,
        product_name=entry.product_name,
        metadata=entry.metadata,
    )


def _offer(entry: Entry, caller: ClientApp, catalogue: Catalogue) -> Offer | None:
    name, microservice = entry.values.get("f001"), entry.values.get("f000")
    if not name or entry.faulty("f001") or entry.faulty("f000"):
        if not entry.faulty("f001") and not name:
            entry.fault("f001", "required", "is required")
        return None
    found = catalogue.offers(caller.client, name, microservice)
    active = [offer for offer in found if offer.active]
    if not found:
        known = microservice and catalogue.offers(caller.client, name)
        code = "f000" if known else "f001"
        entry.fault(code, "unknown_service", "names no service that is assigned to you")
    elif not active:
        entry.fault("f001", "service_inactive", "names a service that is not active for you")
    elif len(active) > 1:
        entry.fault("f000", "ambiguous_service", "several services have that name: say which")
    elif caller.mode not in active[0].service.urls:
        message = f"names a service that has no {caller.mode} mode"
        entry.fault("f001", "mode_unavailable", message)
    else:
        return active[0]
    return None


def _route(entry: Entry, offer: Offer) -> None:
    route = entry.values.get("f002")
    if entry.faulty("f002"):
        return
    if not route:
        entry.fault("f002", "required", "is required")
    elif route not in offer.service.routes:
        routes = ", ".join(offer.service.routes)
        entry.fault("f002", "unknown_route", f"the service has no such route; it has: {routes}")


def _amount(entry: Entry, offer: Offer) -> int | None:
    """Return the amount in minor units of the service's currency, or note why it can't be."""
    service = offer.service
    if entry.currency is not None and entry.currency != service.currency:
        message = f"is not the service's currency, which is {service.currency}"
        entry.fault_at("currency", "wrong_currency", message)
    if entry.faulty("f004"):
        return None
    amount = entry.amount_minor
    if amount is None:
        text = entry.values.get("f004")
        if not text:
            entry.fault("f004", "required", "is required")
            return None
        try:
            amount = parse_minor(text, service.currency)
        except MoneyError as error:
            entry.fault("f004", error.code, str(error))
            return None
    limits = offer.limits
    least = max(1, limits.min_minor or 0)
    most = MAX_MINOR if limits.max_minor is None else limits.max_minor
    if not least <= amount <= most:
        bound = least if amount < least else most
        words = "at least" if amount < least else "at most"
        shown = f"{format_minor(bound, service.currency)} {service.currency}"
        kind = "amount_too_small" if amount < least else "amount_too_large"
        entry.fault("f004", kind, f"must be {words} {shown}")
    return amount


def _phone(entry: Entry, *, required: bool) -> None:
    phone = entry.values.get("f005")
    if entry.faulty("f005"):
        return
    if phone and not is_phone(phone):
        entry.fault("f005", "invalid_phone", "must be an E.164 number such as +250780000000")
    elif not phone and required:
        entry.fault("f005", "required", "is required")


def _definitions(entry: Entry, offer: Offer) -> None:
    """Check every field against the service's definitions."""
    rules = offer.rules
    for code, rule in rules.by_code.items():
        if rule.definition.required and not entry.values.get(code) and not entry.faulty(code):
            entry.fault(code, "required", "is required")
    for code, value in entry.values.items():
        if entry.faulty(code):
            continue
        if code in rules.by_code:
            if value:
                entry.faults.extend(named(entry.name(code), rules.faults(code, value)))
        elif code not in BASE_CODES:
            entry.fault(code, "unknown_field", "is not a field of this service")
