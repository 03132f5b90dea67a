"""The scenario table and the parsing of requests, without I/O."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_simulator.domain.errors import MalformedError
from mospay_simulator.domain.payloads import (
    parse_advance,
    parse_enquiry,
    parse_order,
    parse_references,
    parse_refund,
    parse_refund_enquiry,
)
from mospay_simulator.domain.payments import mask_phone
from mospay_simulator.domain.refunds import minor_units
from mospay_simulator.domain.scenarios import (
    REFUND_SCENARIOS,
    SCENARIOS,
    choose_refund_scenario,
    choose_scenario,
    refund_scenario_named,
    refund_scenario_of_phone,
    scenario_named,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("phone", "amount", "name"),
    [
        ("+250780000004", "1000", "timeout_paid"),
        ("+250780000004", "1001", "timeout_paid"),
        ("+250780000000", "1001", "success"),
        ("+250781234567", "1001", "insufficient_funds"),
        (None, "204.50", "timeout_paid"),
        (None, "16", "reordered_callback"),
        (None, "1019", "payer_window"),
        (None, "1022", "success"),
        (None, "99", "success"),
    ],
)
def test_phone_chooses_before_amount(phone: str | None, amount: str, name: str) -> None:
    assert choose_scenario(phone, amount).name == name


def test_every_scenario_is_found_by_its_code_and_its_name() -> None:
    for scenario in SCENARIOS:
        assert choose_scenario(f"+25078000{scenario.code:04}", "500") is scenario
        assert choose_scenario(None, f"{500 + scenario.code}") is scenario
        assert scenario_named(scenario.name) is scenario


def test_readme_documents_every_scenario(project: Path) -> None:
    readme = (project / "README.md").read_text()
    for scenario in SCENARIOS:
        assert f"| …{scenario.code:04} | …{scenario.code:02} | `{scenario.name}` |" in readme
    for refund in REFUND_SCENARIOS:
        assert f"| …01{refund.code:02} | …{refund.code:02} | `{refund.name}` |" in readme


def test_every_refund_scenario_is_found_by_phone_by_amount_and_by_name() -> None:
    for scenario in REFUND_SCENARIOS:
        of_phone = refund_scenario_of_phone(f"+25078000 01{scenario.code:02}".replace(" ", ""))
        assert choose_refund_scenario(of_phone, 777) is scenario
        assert choose_refund_scenario(None, 500 + scenario.code) is scenario
        assert refund_scenario_named(scenario.name) is scenario


@pytest.mark.parametrize("phone", [None, "+250780000004", "+250780000199", "+250781234567"])
def test_other_phones_leave_the_refund_to_its_amount(phone: str | None) -> None:
    assert refund_scenario_of_phone(phone) is None


def test_refund_code_means_what_it_means_for_payments() -> None:
    for refund in REFUND_SCENARIOS:
        payment = SCENARIOS[refund.code]
        assert (refund.first, refund.delivery) == (payment.first, payment.delivery)
        assert [(s.after, s.outcome, s.callbacks) for s in refund.steps] == [
            (s.after, s.outcome, s.callbacks) for s in payment.steps
        ]


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1004", "RWF", 1004),
        ("10.04", "USD", 1004),
        ("10.5", "USD", 1050),
        ("1.004", "KWD", 1004),
        ("1004.0", "RWF", 1004),
        ("10.5", "RWF", None),
        ("10.005", "USD", None),
    ],
)
def test_minor_units_follow_the_currency(amount: str, currency: str, minor: int | None) -> None:
    assert minor_units(amount, currency) == minor


def test_list_and_object_payloads_mean_the_same() -> None:
    listed = [
        {"i": 4, "v": "1000"},
        {"i": 5, "v": "+250780000000"},
        {"i": 9, "v": None},
        {"i": 10, "v": "pay_1"},
    ]
    named = {"f004": "1000", "f005": "+250780000000", "f010": "pay_1"}
    assert parse_order("s", "r", listed, {}) == parse_order("s", "r", named, {})


def test_phone_is_masked_but_for_prefix_and_end() -> None:
    assert mask_phone("+250781234567") == "+250*******67"
    assert mask_phone("123456") == "123456"[:4] + "56"


@given(JSON)
def test_any_json_is_an_order_or_malformed(body: object) -> None:
    for parse in (
        lambda: parse_order("s", "r", body, {}),
        lambda: parse_enquiry(body),
        lambda: parse_refund("s", body, {}),
        lambda: parse_refund_enquiry(body),
        lambda: parse_advance(body),
    ):
        try:
            parse()
        except MalformedError as error:
            assert error.errors


@given(JSON)
def test_any_json_is_an_audit_query_or_malformed(body: object) -> None:
    with pytest.raises(MalformedError):
        parse_references(body)
