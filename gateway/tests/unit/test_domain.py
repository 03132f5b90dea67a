"""Pure rules: fields, drafts, keys, fingerprints, redaction, words of the field API."""

import datetime as dt
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_gateway.domain.catalogue import Catalogue
from mospay_gateway.domain.errors import InvalidKey, NotAuthenticated
from mospay_gateway.domain.fields import compile_rules, is_phone, mask_phone
from mospay_gateway.domain.idempotency import Fingerprints, read_key
from mospay_gateway.domain.payments import News, Payment, field_view
from mospay_gateway.domain.redaction import redact
from mospay_shared.contracts import FieldDefinitionV1, PaymentStatus, ServiceV1

NOW = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


def service(*fields: FieldDefinitionV1, currency: str = "USD") -> ServiceV1:
    """A service with these definitions."""
    return ServiceV1(
        service_id="svc_1", microservice="sim", name="collection", title="t", currency=currency,
        urls={}, routes=["payment"], fields=list(fields), active=True, version=1,
    )  # fmt: skip


def faults(value: str, **definition: Any) -> set[str]:
    """Return the codes of what is wrong with a value."""
    rules = compile_rules(service(FieldDefinitionV1(code="f011", label="L", **definition)))
    return {code for code, _ in rules.faults("f011", value)}


@pytest.mark.parametrize(
    ("definition", "good", "bad", "code"),
    [
        ({"min_length": 2}, "ab", "a", "too_short"),
        ({"max_length": 2}, "ab", "abc", "too_long"),
        ({"regex": "[0-9]{3}"}, "123", "1234", "wrong_format"),
        ({"regex": "a|b"}, "a", "ab", "wrong_format"),
        ({"enum": ["x", "y"]}, "x", "z", "not_allowed"),
        ({"type": "number", "min_value": "-1"}, "-1", "-1.01", "too_small"),
        ({"type": "number", "max_value": "9"}, "9.0", "9.01", "too_large"),
        ({"type": "number"}, "1.50", "1e5", "invalid_number"),
        ({"type": "number"}, "7", "٣", "invalid_number"),
        ({"type": "amount"}, "10.50", "10.505", "too_precise"),
        ({"type": "amount"}, "10.50", "ten", "invalid_amount"),
        ({"type": "phone"}, "+250780000000", "0780000000", "invalid_phone"),
        ({"type": "email"}, "a@b.rw", "a@b", "invalid_email"),
        ({"type": "date"}, "2026-02-28", "2026-02-30", "invalid_date"),
        ({"type": "date", "min_value": "2026-01-01"}, "2026-01-01", "2025-12-31", "too_small"),
    ],
)
def test_definition_lets_the_good_in_and_names_the_bad(
    definition: dict[str, Any], good: str, bad: str, code: str
) -> None:
    assert faults(good, **definition) == set()
    assert faults(bad, **definition) == {code}


def test_a_hostile_regex_cannot_stall_the_gateway() -> None:
    started = time.perf_counter()
    assert faults("a" * 250 + "!", regex="(a+)+") == {"wrong_format"}
    assert time.perf_counter() - started < 0.5


def test_a_regex_that_cannot_be_compiled_is_listed_and_not_applied() -> None:
    rules = compile_rules(service(FieldDefinitionV1(code="f011", label="L", regex="(?=x)[")))
    assert rules.broken == ("f011",)
    assert list(rules.faults("f011", "anything")) == []


def test_phones_are_e164() -> None:
    assert is_phone("+250780000000") and is_phone("+919876543210")
    for text in ("", "250780000000", "+0123456789", "+25078", "+2507800000000000", "+٢٥٠٧٨"):
        assert not is_phone(text)
    assert mask_phone("+250780000123") == "**********123" and mask_phone(None) is None


@pytest.mark.parametrize(("header", "key"), [("k1", "k1"), ('"k 1"', "k 1"), (' "a" ', "a")])
def test_key_is_read_quoted_or_bare(header: str, key: str) -> None:
    assert read_key(header) == key


@pytest.mark.parametrize("header", [None, "", " ", '""', "x" * 256, "é", "a\x01"])
def test_key_that_is_none_is_refused(header: str | None) -> None:
    with pytest.raises(InvalidKey):
        read_key(header)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(-9, 9)))
def test_fingerprint_depends_on_members_not_on_their_order(body: dict[str, Any]) -> None:
    prints = Fingerprints(bytes(32))
    turned = dict(reversed(list(body.items())))
    assert prints.of_body(body) == prints.of_body(turned)
    assert prints.of_body(body) != prints.of_body({**body, "further": 1})
    assert prints.of_body(body) != Fingerprints(b"\1" * 32).of_body(body)


def test_reference_hash_keeps_app_mode_and_reference_apart() -> None:
    prints = Fingerprints(bytes(32))
    made = {
        prints.of_reference(*parts)
        for parts in (
            ("a", "test", "r"),
            ("a", "live", "r"),
            ("at", "est", "r"),
            ("b", "test", "r"),
        )
    }
    assert len(made) == 4


def test_redaction_takes_secrets_at_any_depth_and_masks_phones() -> None:
    raw = json.dumps(
        {"f008": "s", "fields": {"f007": "s", "f011": "s", "f005": "+250780000123"},
         "list": [{"password": "s", "phone": "+250780000123"}], "token": "s", "amount": 5}
    ).encode()  # fmt: skip
    text = redact(raw, frozenset({"f007", "f008", "f011"}), frozenset({"f005"}))
    assert text is not None and '"s"' not in text and "250780000123" not in text
    assert json.loads(text)["amount"] == 5


@pytest.mark.parametrize("raw", [b"", b"not json", b"x" * 9000, b"[" * 9000, b"\xff"])
def test_what_is_no_short_json_is_left_out(raw: bytes) -> None:
    assert redact(raw, frozenset(), frozenset()) is None


def payment(**changes: Any) -> Payment:
    """A payment just accepted."""
    values: dict[str, Any] = {
        "id": "pay_1", "client_id": "cli_1", "mode": "test", "app_id": "a", "service_id": "s",
        "microservice": "m", "service": "collection", "route": "payment", "amount_minor": 1050,
        "currency": "USD", "reference": "r", "fields": {"f005": "+250780000000"}, "metadata": {},
        "customer_id": None, "product_id": None, "product_name": None, "directory_version": 1,
        "accepted_via": "x", "request_id": "q", "received_at": NOW, "accepted_at": NOW,
        "send_before": NOW,
    }  # fmt: skip
    return Payment(**(values | changes))


@pytest.mark.parametrize("status", list(PaymentStatus))
def test_field_api_says_200_for_success_alone(status: PaymentStatus) -> None:
    shown = field_view(payment(status=status))
    assert (shown["status"] == "200") is (status is PaymentStatus.SUCCEEDED)
    assert shown["outcome"] == status.value
    assert Decimal(shown["amount"]) == Decimal("10.50")


def test_news_apply_when_newer_and_ours() -> None:
    base = payment(version=3)
    news = News("pay_1", "cli_1", "test", PaymentStatus.FAILED, 4, None, "x", None, False, NOW)
    assert base.with_news(news).status is PaymentStatus.FAILED
    for other in (
        None,
        News("pay_1", "cli_1", "test", PaymentStatus.FAILED, 3, None, "x", None, False, NOW),
        News("pay_1", "cli_2", "test", PaymentStatus.FAILED, 9, None, "x", None, False, NOW),
        News("pay_1", "cli_1", "live", PaymentStatus.FAILED, 9, None, "x", None, False, NOW),
    ):
        assert base.with_news(other) == base


def test_view_shows_no_phone_in_clear() -> None:
    assert "250780000000" not in json.dumps(payment().view(), default=str)


def test_empty_catalogue_knows_nobody() -> None:
    catalogue = Catalogue()
    for text in ("", "mp", "mp_test_a", "mp_test_a_b"):
        with pytest.raises(NotAuthenticated):
            catalogue.by_api_key(text, NOW)
    with pytest.raises(NotAuthenticated):
        catalogue.by_password("u", "0" * 64, None, NOW)


def test_renamed_service_is_found_by_its_new_name_alone() -> None:
    catalogue = Catalogue()
    client = {
        "client_id": "c", "company_id": "x", "name": "n", "apps": [], "currency": "RWF",
        "time_zone": "UTC", "active": True, "version": 1,
    }  # fmt: skip
    catalogue.apply("client", "c", client)
    catalogue.apply("service", "svc_1", service().model_dump())
    catalogue.apply(
        "assignment",
        "a",
        {"assignment_id": "a", "client_id": "c", "service_id": "svc_1", "active": True,
         "version": 7},
    )  # fmt: skip
    known = catalogue._clients["c"]
    assert catalogue.offers(known, "collection")[0].directory_version == 7
    renamed = service().model_copy(update={"name": "payout", "version": 9}).model_dump()
    catalogue.apply("service", "svc_1", renamed)
    assert catalogue.offers(known, "collection") == []
    assert catalogue.offers(known, "payout")[0].directory_version == 9
    assert catalogue.only_service_of("sim") == "svc_1"
    catalogue.apply("service", "svc_1", None)
    assert catalogue.offers(known) == [] and catalogue.only_service_of("sim") is None
