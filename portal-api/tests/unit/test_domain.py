"""Rules without I/O: explanations, missing steps, redaction, permissions, parts of a snapshot."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_portal_api.domain import stream
from mospay_portal_api.domain.credentials import api_key, api_password
from mospay_portal_api.domain.errors import Forbidden
from mospay_portal_api.domain.explain import explain
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.domain.trace import missing_steps, redacted
from mospay_portal_api.usecases.snapshot import PART_BYTES, PART_ENTITIES, parts_of
from mospay_shared.chassis.operations import Hop
from mospay_shared.contracts import CompanyV1, PaymentStatus

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def person(role: str = "owner", client_ids: frozenset[str] | None = None) -> Person:
    """Somebody signed in: an admin, or a user of these clients."""
    audience = "admin" if client_ids is None else "client"
    return Person("usr_1", "n", "e", role, audience, None, "csrf", NOW, client_ids)


def hop(service: str, name: str, kind: str = "message") -> Hop:
    """A hop by service and name."""
    return Hop(id="h", service=service, kind=kind, name=name, outcome="ok")


@pytest.mark.parametrize("status", list(PaymentStatus))
def test_every_status_has_words_for_a_cashier(status: PaymentStatus) -> None:
    told = explain(status, None, None, late=False)
    assert told.headline and told.cause and told.next_action


@pytest.mark.parametrize("code", [None, "no_answer", "lease_expired", "not_found_unproven", "new"])
def test_unknown_never_advises_to_pay_again(code: str | None) -> None:
    action = explain("unknown", code, None, late=False).next_action
    assert "not ask the payer to pay again" in action


def test_status_of_tomorrow_has_a_headline_too() -> None:
    assert (
        explain("sleeping_well", None, None, late=False).headline == "The payment is sleeping well"
    )


def test_reason_of_the_provider_is_told_where_we_have_no_words_of_our_own() -> None:
    assert explain("failed", "x9", "Wallet closed", late=False).cause == "Wallet closed"
    assert "enough money" in explain("failed", "insufficient_funds", "E-51", late=False).cause


def test_waiting_is_told_by_the_state_of_the_attempt_and_the_next_enquiry() -> None:
    sent = explain("processing", None, None, late=False, attempt={"state": "sending"})
    assert "has been sent" in sent.cause
    later = NOW + dt.timedelta(seconds=32)
    told = explain("unknown", "no_answer", None, late=False, next_at=later, now=NOW)
    assert "again in 32 s" in told.cause


def test_late_success_warns_of_a_second_payment() -> None:
    assert "paid again" in explain("succeeded", None, None, late=True).next_action


def missing(status: str, hops: list[Hop], age: float = 60, **more: Any) -> dict[str, str]:
    """Service → what is missing of a payment that is so many seconds old."""
    since = NOW - dt.timedelta(seconds=age)
    found = missing_steps(
        {"status": status, "accepted_at": since, "updated_at": since},
        hops,
        booked=more.pop("booked", True),
        unavailable=more.pop("unavailable", ()),
        now=NOW,
        expected_seconds=20,
    )
    return {one["service"]: one["what"] for one in found}


ALL = [
    hop("gateway", "POST /v1/payments", "http"),
    hop("payment-router", "payments.process.v1"),
    *(hop(s, "payment.succeeded.v1") for s in ("gateway", "notifier", "reporter", "ledger")),
]


def test_nothing_is_missing_of_a_whole_payment_nor_of_a_young_one() -> None:
    assert missing("succeeded", ALL) == {}
    assert missing("succeeded", [], age=5, booked=False) == {}


def test_success_without_a_journal_entry_misses_the_ledger() -> None:
    assert missing("succeeded", ALL, booked=False) == {"ledger": "the journal entry"}


def test_end_that_was_not_heard_of_is_missing_where_it_was_not_heard() -> None:
    hops = [h for h in ALL if h.service != "notifier"]
    assert missing("succeeded", hops) == {"notifier": "the event payment.succeeded.v1"}
    assert set(missing("failed", ALL)) == {"gateway", "notifier", "reporter"}


def test_payment_the_router_has_not_seen_misses_it_alone_while_it_is_processing() -> None:
    hops = [ALL[0], hop("reporter", "payment.accepted.v1")]
    assert set(missing("processing", hops)) == {"payment-router"}


def test_service_that_could_not_be_asked_is_never_called_missing() -> None:
    found = missing("succeeded", [], booked=False, unavailable=("ledger", "gateway"))
    assert set(found) == {"payment-router", "reporter", "notifier"}


def test_secrets_and_phones_are_masked_at_any_depth() -> None:
    data = {"a": [{"Authorization": "x", "f007": "y"}], "phone": "+250780000001", "amount": 5}
    assert redacted(data) == {
        "a": [{"Authorization": "[redacted]", "f007": "[redacted]"}],
        "phone": "**********001",
        "amount": 5,
    }


def test_viewer_changes_nothing_and_client_users_have_no_directory() -> None:
    person("owner").require("credentials:write")
    person("viewer").require("directory:read")
    for who in (person("viewer"), person("owner", frozenset({"cli_1"}))):
        with pytest.raises(Forbidden):
            who.require("directory:write")


def test_token_of_a_client_user_can_not_be_made_without_or_for_another_client() -> None:
    user = person("owner", frozenset({"cli_1"}))
    assert asker(user, "cli_1").client_id == "cli_1"
    assert asker(person(), "cli_1").client_id is None
    for client in (None, "cli_2"):
        with pytest.raises(ValueError, match="own"):
            asker(user, client)


def test_generated_secrets_are_long_and_never_what_is_stored() -> None:
    basic, key = api_password("app", b"p" * 32), api_key("test")
    assert len(basic.shown["password"]) >= 22 and basic.shown["password"] not in basic.secret_hash
    word, mode, prefix, secret = key.shown["api_key"].split("_")
    assert (word, mode, prefix) == ("mp", "test", key.lookup) and len(secret) == 40


@given(st.lists(st.integers(1, 200), max_size=300))
def test_parts_of_a_snapshot_hold_all_in_order_and_keep_the_limits(sizes: list[int]) -> None:
    entities = [
        ("company", CompanyV1(company_id=f"c{n}", name="x" * size, version=1))
        for n, size in enumerate(sizes)
    ]
    parts = parts_of(entities)
    assert [one for part in parts for one in part] == entities and len(parts) >= 1
    assert all(len(part) <= PART_ENTITIES for part in parts)
    assert all(sum(len(b.model_dump_json()) for _, b in part) <= PART_BYTES for part in parts)


def test_topics_that_do_not_exist_are_named() -> None:
    known, wrong = stream.parse_topics("payment, metrics,payment:pay_" + "a" * 32 + ",x,payment:1")
    assert len(known) == 3 and wrong == ["x", "payment:1"]
