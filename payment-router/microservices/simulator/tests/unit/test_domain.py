"""The scenario table and the parsing of requests, without I/O."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_simulator.domain.errors import MalformedError
from mospay_simulator.domain.payloads import parse_enquiry, parse_order, parse_references
from mospay_simulator.domain.payments import mask_phone
from mospay_simulator.domain.scenarios import SCENARIOS, choose_scenario, scenario_named

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
        (None, "1017", "success"),
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
    for parse in (lambda: parse_order("s", "r", body, {}), lambda: parse_enquiry(body)):
        try:
            parse()
        except MalformedError as error:
            assert error.errors


@given(JSON)
def test_any_json_is_an_audit_query_or_malformed(body: object) -> None:
    with pytest.raises(MalformedError):
        parse_references(body)
