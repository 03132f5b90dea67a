"""Rules of delivery: signatures, verdicts, what is told, which addresses are taken."""

import datetime as dt

import pytest
from mospay_notifier.domain import (
    EVENTS,
    RETRY_AFTER_LIMIT_SECONDS,
    EndpointRefused,
    check_event_types,
    check_url,
    judge,
    new_secret,
    parse_retry_after,
    sign,
    wants,
)
from mospay_notifier.handlers import (
    INVOICE_EVENTS,
    PAYMENT_EVENTS,
    REFUND_EVENTS,
    SETTLEMENT_EVENTS,
)
from mospay_notifier.settings import SCHEDULE
from mospay_shared.contracts import (
    MESSAGES,
    CustomerEventV1,
    InvoiceEventV1,
    PaymentEventV1,
    PayoutV1,
    RefundEventV1,
    SettlementV1,
)
from standardwebhooks import Webhook

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def wait_seconds(attempt: int, status: int | None, retry_after: float | None = None) -> float:
    """How long after attempt number `attempt` the next one starts."""
    verdict = judge(attempt, status, retry_after, SCHEDULE, NOW)
    assert verdict.state == "pending" and verdict.next_at is not None
    return (verdict.next_at - NOW).total_seconds()


def test_signature_is_the_one_the_published_library_makes() -> None:
    secret, body = new_secret(), b'{"type":"payment.succeeded"}'
    assert sign([secret], "evt_1", int(NOW.timestamp()), body) == Webhook(secret).sign(
        "evt_1", NOW, body.decode()
    )


def test_every_secret_signs_while_one_rotates() -> None:
    one, two = new_secret(), new_secret()
    both = sign([one, two], "evt_1", 1, b"{}").split(" ")
    assert both == [sign([one], "evt_1", 1, b"{}"), sign([two], "evt_1", 1, b"{}")]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_only_2xx_is_success(status: int) -> None:
    assert judge(1, status, None, SCHEDULE, NOW).state == "delivered"


@pytest.mark.parametrize("status", [None, 100, 301, 302, 400, 404, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    assert judge(1, status, None, SCHEDULE, NOW).state == "pending"


def test_gone_ends_the_delivery_and_disables_its_endpoint() -> None:
    verdict = judge(1, 410, None, SCHEDULE, NOW)
    assert (verdict.state, verdict.next_at, verdict.disable) == ("failed", None, True)


def test_waits_follow_the_schedule_with_at_most_a_tenth_more() -> None:
    hour = 3600
    steps = [5, 300, 1800, *(n * hour for n in (2, 5, 10, 14, 20, 24))]
    for attempt, seconds in enumerate(steps, start=1):
        assert seconds <= wait_seconds(attempt, 500) <= seconds * 1.1
    assert judge(10, 500, None, SCHEDULE, NOW).state == "failed"


@pytest.mark.parametrize("status", [429, 503])
def test_busy_receiver_may_ask_for_longer_within_a_day(status: int) -> None:
    assert wait_seconds(1, status, 600) == 600
    assert wait_seconds(1, status, 10 * RETRY_AFTER_LIMIT_SECONDS) == RETRY_AFTER_LIMIT_SECONDS
    assert wait_seconds(2, status, 1) >= 300  # never sooner than planned
    assert wait_seconds(1, 500, 600) < 6  # 500 may not ask


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("120", 120.0), ("0", 0.0), ("-1", None), ("1.5", None),
        ("²", None), ("soon", None), ("9" * 400, None),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Mar 2026 11:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://shop.example/hook", "plain http"),
        ("ftp://shop.example", "absolute https"),
        ("nonsense", "absolute https"),
        ("https://", "absolute https"),
        ("https:///path", "absolute https"),
        ("https://user:pw@shop.example", "user name"),
        ("https://@shop.example", "user name"),
        ("https://shop.example/#part", "fragment"),
        ("https://[::1", "host and port"),
        ("https://shop.example:99999", "host and port"),
        ("https://shop.example:0", "host and port"),
        ("https://sh op.example", "spaces"),
        ("https://shop.example/\n", "spaces"),
        ("https://shop.example/\x00", "spaces"),
        ("https://sh%00op.example/", "absolute https"),
        ("https://bücher.example", "ASCII"),
        ("https://" + "a" * 2000, "longer"),
    ],
)
def test_bad_address_is_refused_with_its_reason(url: str, reason: str) -> None:
    with pytest.raises(EndpointRefused, match=reason) as refused:
        check_url(url, plain_allowed=False)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url", ["https://shop.example", "https://shop.example:8443/a?b=c", "https://[2600::1]/hook"]
)
def test_good_address_is_taken(url: str) -> None:
    check_url(url, plain_allowed=False)


def test_plain_http_is_taken_in_development() -> None:
    check_url("http://127.0.0.1:9000/hook", plain_allowed=True)


def test_filter_names_events_that_exist() -> None:
    check_event_types(sorted(EVENTS))
    with pytest.raises(EndpointRefused) as refused:
        check_event_types(["payment.failed", "payment.suceeded"])
    assert refused.value.field == "event_types.1"


def test_every_event_of_what_merchants_have_in_the_catalogue_can_be_asked_for() -> None:
    money = (PaymentEventV1, RefundEventV1, SettlementV1, PayoutV1)
    bodies = (*money, InvoiceEventV1, CustomerEventV1)
    wire = {name for name, message in MESSAGES.items() if message.model in bodies}
    assert {f"{name}.v1" for name in EVENTS} == wire


def test_queues_take_what_merchants_are_told_of_and_nothing_else() -> None:
    taken = {*PAYMENT_EVENTS, *REFUND_EVENTS, *SETTLEMENT_EVENTS, *INVOICE_EVENTS}
    assert taken == {f"{name}.v1" for name in EVENTS}  # so not `payment.risk_assessed`


def test_empty_filter_means_news_a_merchant_acts_on() -> None:
    told = {name for name in EVENTS if wants([], name)}
    assert EVENTS - told == {
        "payment.accepted", "payment.processing", "refund.pending", "payout.created",
        "payout.approved", "payout.rejected", "settlement.reserve_released",
        "invoice.issued", "invoice.voided", "invoice.credited",
        "customer.created", "customer.updated", "customer.deactivated",
    }  # fmt: skip
    assert wants(["payment.accepted"], "payment.accepted")
    assert not wants(["payment.accepted"], "payment.succeeded")
