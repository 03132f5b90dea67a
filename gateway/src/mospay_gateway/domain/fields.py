"""Field definitions of a service: compiled once, checked on every request, all faults at once."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated

import phonenumbers
from mospay_shared.contracts import FieldDefinitionV1, ServiceV1
from mospay_shared.money import MoneyError, parse_minor
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from mospay_gateway.domain.errors import Fault

_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,18})?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@lru_cache(maxsize=8192)
def is_phone(text: str) -> bool:
    """Say whether a number is E.164 (`+` and country code) and possible in its country."""
    if not _E164.fullmatch(text):
        return False
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(text))
    except phonenumbers.NumberParseException:
        return False


def mask_phone(text: str | None) -> str | None:
    """Return a number of which only the last three digits can be read."""
    return None if text is None else "*" * max(0, len(text) - 3) + text[-3:]


def mask_text(text: str) -> str:
    """Return a value of which the last three characters can be read, if it is longer than six."""
    shown = text[-3:] if len(text) > 6 else ""
    return "*" * (len(text) - len(shown)) + shown


@dataclass(frozen=True, slots=True)
class _Rule:
    definition: FieldDefinitionV1
    pattern: TypeAdapter[str] | None


@dataclass(frozen=True, slots=True)
class FieldRules:
    """The compiled definitions of one service; `broken` are codes whose regex can't be used."""

    by_code: Mapping[str, _Rule]
    currency: str
    broken: tuple[str, ...]

    def required(self, code: str, default: bool) -> bool:
        """Say whether a field must be there; `default` holds where nothing is defined."""
        rule = self.by_code.get(code)
        return default if rule is None else rule.definition.required

    def secret(self, code: str) -> bool:
        """Say whether a client-defined field is a secret."""
        rule = self.by_code.get(code)
        return rule is not None and rule.definition.type == "secret"

    @property
    def masked(self) -> frozenset[str]:
        """The codes whose values are never shown whole."""
        rules = self.by_code.items()
        return frozenset(c for c, r in rules if r.definition.mask or r.definition.type == "phone")

    @property
    def secrets(self) -> frozenset[str]:
        """The codes that are sealed at once and erased at the end."""
        return frozenset(c for c, r in self.by_code.items() if r.definition.type == "secret")

    def faults(self, code: str, value: str) -> Iterator[tuple[str, str]]:
        """Yield (code, message) of every fault a present value has against its definition."""
        rule = self.by_code.get(code)
        if rule is None:
            return
        wanted = rule.definition
        if wanted.min_length is not None and len(value) < wanted.min_length:
            yield "too_short", f"has fewer than {wanted.min_length} characters"
        if wanted.max_length is not None and len(value) > wanted.max_length:
            yield "too_long", f"has more than {wanted.max_length} characters"
        if wanted.enum and value not in wanted.enum:
            yield "not_allowed", "must be one of " + ", ".join(wanted.enum[:20])
        if rule.pattern is not None:
            try:
                rule.pattern.validate_python(value)
            except ValidationError:
                yield "wrong_format", f"does not have the format of {wanted.label}"
        yield from _type_faults(wanted, value, self.currency)


def compile_rules(service: ServiceV1) -> FieldRules:
    """Compile a service's definitions.

    Patterns run on a linear-time engine (pydantic-core's), so that no definition can be made to
    stall the gateway. One it can't compile is not applied and is listed in `broken`.
    """
    rules, broken = {}, []
    for definition in sorted(service.fields, key=lambda d: d.order):
        pattern: TypeAdapter[str] | None = None
        if definition.regex:
            try:
                pattern = TypeAdapter(Annotated[str, Field(pattern=rf"^(?:{definition.regex})$")])
            except SchemaError:
                broken.append(definition.code)
        rules[definition.code] = _Rule(definition, pattern)
    return FieldRules(rules, service.currency, tuple(broken))


def _type_faults(wanted: FieldDefinitionV1, value: str, currency: str) -> Iterator[tuple[str, str]]:
    match wanted.type:
        case "phone" if not is_phone(value):
            yield "invalid_phone", "must be an E.164 number such as +250780000000"
        case "email" if len(value) > 254 or not _EMAIL.fullmatch(value):
            yield "invalid_email", "must be an e-mail address"
        case "date":
            yield from _date_faults(wanted, value)
        case "number":
            yield from _number_faults(wanted, value)
        case "amount":
            try:
                parse_minor(value, currency)
            except MoneyError as error:
                yield error.code, str(error)
            else:
                yield from _number_faults(wanted, value)


def _date_faults(wanted: FieldDefinitionV1, value: str) -> Iterator[tuple[str, str]]:
    try:
        if not _DATE.fullmatch(value):
            raise ValueError
        dt.date.fromisoformat(value)
    except ValueError:
        yield "invalid_date", "must be a date such as 2026-01-31"
        return
    if wanted.min_value and value < wanted.min_value:
        yield "too_small", f"must not be before {wanted.min_value}"
    if wanted.max_value and value > wanted.max_value:
        yield "too_large", f"must not be after {wanted.max_value}"


def _number_faults(wanted: FieldDefinitionV1, value: str) -> Iterator[tuple[str, str]]:
    if not _DECIMAL.fullmatch(value):
        yield "invalid_number", "must be a plain decimal number"
        return
    number = Decimal(value)
    for limit, code, words in (
        (wanted.min_value, "too_small", "must be at least"),
        (wanted.max_value, "too_large", "must be at most"),
    ):
        if limit is None:
            continue
        try:
            bound = Decimal(limit)
        except InvalidOperation:
            continue  # a definition without a usable bound has none
        if number < bound if code == "too_small" else number > bound:
            yield code, f"{words} {limit}"


def named(field: str, found: Iterator[tuple[str, str]]) -> list[Fault]:
    """Give faults the name their field has for the caller."""
    return [Fault(field, code, message) for code, message in found]
