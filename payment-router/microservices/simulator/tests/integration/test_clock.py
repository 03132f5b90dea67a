"""The movable clock: payer windows, late decisions and callbacks follow it, across restarts."""

import json
import queue
import sqlite3
import subprocess
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import pytest

HOUR = 3600


class Running(NamedTuple):
    client: httpx.Client
    process: subprocess.Popen[bytes]


class Receiver(Protocol):
    url: str
    received: "queue.Queue[tuple[dict[str, str], bytes]]"


Eventually = Callable[..., Any]


@pytest.fixture(scope="module", params=["sqlite", "memory"])
def patient(request: pytest.FixtureRequest, start: Callable[..., Running]) -> httpx.Client:
    """A simulator in which everything that waits takes an hour, unless the clock is moved."""
    return start(
        SIMULATOR_RECORD=request.param,
        SIMULATOR_ASYNC_SECONDS=str(HOUR),
        SIMULATOR_LATE_SECONDS=str(HOUR),
        SIMULATOR_WINDOW_SECONDS=str(HOUR),
    ).client


def pay(client: httpx.Client, scenario: int, callback_url: str | None = None) -> dict[str, Any]:
    reference = f"pay_{uuid.uuid4().hex}"
    body = {"f004": "1000", "f005": f"+25078000{scenario:04}", "f010": reference}
    headers = {} if callback_url is None else {"X-Callback-Url": callback_url}
    told: dict[str, Any] = client.post("/collection/payment", json=body, headers=headers).json()
    return told


def enquire(client: httpx.Client, reference: str) -> dict[str, Any]:
    told: dict[str, Any] = client.post("/collection/paymentStatus", json={"f010": reference}).json()
    return told


def advance(client: httpx.Client, seconds: float) -> dict[str, Any]:
    answer = client.post("/_clock", json={"advance_seconds": seconds})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def next_callback(receiver: Receiver) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(receiver.received.get(timeout=10)[1])
    return body


def test_clock_moves_ahead_and_tells_where_it_is(patient: httpx.Client) -> None:
    before = patient.get("/_clock").json()
    after = advance(patient, 90.5)
    assert after["offset_seconds"] == before["offset_seconds"] + 90.5
    moved = datetime.fromisoformat(after["now"]) - datetime.fromisoformat(before["now"])
    assert 90.5 <= moved.total_seconds() < 150
    assert patient.get("/_clock").json()["offset_seconds"] == after["offset_seconds"]


@pytest.mark.parametrize("seconds", [-1, "60", None, True, 1e12])
def test_clock_refuses_to_move_back_or_by_nonsense(patient: httpx.Client, seconds: object) -> None:
    answer = patient.post("/_clock", json={"advance_seconds": seconds})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["advance_seconds"]


def test_clock_stops_at_a_hundred_years(start: Callable[..., Running]) -> None:
    client = start(SIMULATOR_RECORD="memory").client
    year = 366 * 86_400
    for _ in range(100):
        advance(client, year)
    assert client.post("/_clock", json={"advance_seconds": 1}).status_code == 422


def test_customer_action_is_asked_for_until_the_payer_approves(
    patient: httpx.Client, receiver: Receiver
) -> None:
    told = pay(patient, 18, receiver.url)
    action = {"type": "approve_on_phone", "url": None}
    assert (told["outcome"], told["customer_action"]) == ("pending", action)
    assert enquire(patient, told["reference"])["customer_action"] == action
    advance(patient, HOUR)
    body = next_callback(receiver)
    assert (body["kind"], body["outcome"]) == ("payment", "succeeded")
    done = enquire(patient, told["reference"])
    assert done["outcome"] == "succeeded"
    assert "customer_action" not in done


def test_payer_window_passes_and_the_payment_expires(
    patient: httpx.Client, receiver: Receiver
) -> None:
    told = pay(patient, 19, receiver.url)
    assert told["outcome"] == "pending"
    advance(patient, HOUR - 60)
    assert enquire(patient, told["reference"])["outcome"] == "pending"
    advance(patient, 60)
    body = next_callback(receiver)
    assert (body["outcome"], body["reason_code"]) == ("failed", "expired")
    done = enquire(patient, told["reference"])
    assert (done["outcome"], done["reason_code"]) == ("failed", "expired")
    report = patient.get("/_effects", params={"reference": told["reference"]}).json()
    assert report["effects"] == []


def test_payment_may_succeed_after_it_expired(patient: httpx.Client, receiver: Receiver) -> None:
    told = pay(patient, 21, receiver.url)
    advance(patient, HOUR)
    assert next_callback(receiver)["outcome"] == "failed"
    advance(patient, HOUR)
    assert next_callback(receiver)["outcome"] == "succeeded"
    assert enquire(patient, told["reference"])["outcome"] == "succeeded"


def test_jump_over_two_steps_takes_both(patient: httpx.Client, eventually: Eventually) -> None:
    reference = pay(patient, 21)["reference"]
    advance(patient, 3 * HOUR)
    eventually(lambda: enquire(patient, reference)["outcome"] == "succeeded")


def test_pending_payment_may_be_declined(patient: httpx.Client, receiver: Receiver) -> None:
    reference = pay(patient, 17, receiver.url)["reference"]
    advance(patient, HOUR)
    body = next_callback(receiver)
    assert (body["outcome"], body["reason_code"]) == ("failed", "payer_rejected")
    assert enquire(patient, reference)["outcome"] == "failed"


def test_late_callback_comes_long_after_the_enquiry_could_tell(
    patient: httpx.Client, receiver: Receiver, eventually: Eventually
) -> None:
    reference = pay(patient, 20, receiver.url)["reference"]
    marker = pay(patient, 5, receiver.url)["reference"]
    advance(patient, HOUR)
    eventually(lambda: enquire(patient, reference)["outcome"] == "succeeded")
    # The payment taken after it is told first: its own callback is still an hour away.
    assert next_callback(receiver)["reference"] == marker
    advance(patient, HOUR)
    assert next_callback(receiver)["reference"] == reference


def test_clock_and_what_it_made_due_survive_a_kill(
    start: Callable[..., Running], tmp_path: Path, eventually: Eventually
) -> None:
    settings = {
        "SIMULATOR_DATABASE_PATH": str(tmp_path / "simulator.sqlite3"),
        "SIMULATOR_WINDOW_SECONDS": str(HOUR),
    }
    first = start(**settings)
    reference = pay(first.client, 19)["reference"]
    advance(first.client, HOUR / 2)
    first.process.kill()
    first.process.wait()
    second = start(**settings)
    assert second.client.get("/_clock").json()["offset_seconds"] == HOUR / 2
    assert enquire(second.client, reference)["outcome"] == "pending"
    advance(second.client, HOUR / 2)
    eventually(lambda: enquire(second.client, reference).get("reason_code") == "expired")


def test_effects_are_never_changed_or_deleted(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    path = tmp_path / "simulator.sqlite3"
    client = start(SIMULATOR_DATABASE_PATH=str(path)).client
    reference = pay(client, 0)["reference"]
    body = {"refund_id": "r1", "payment_reference": reference, "amount": "500", "currency": "RWF"}
    client.post("/collection/refund", json=body)
    with sqlite3.connect(path) as connection:
        for table in ("effects", "refund_effects"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
            for statement in (f"UPDATE {table} SET amount = '1'", f"DELETE FROM {table}"):
                with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                    connection.execute(statement)


# The tables as the first version made them.
FIRST_VERSION = """
CREATE TABLE payments (
    reference text PRIMARY KEY, provider_reference text NOT NULL UNIQUE, service text NOT NULL,
    route text NOT NULL, amount text NOT NULL, phone_masked text, scenario text NOT NULL,
    outcome text NOT NULL, callback_url text, accepted_at text NOT NULL, settles_at text,
    repeats integer NOT NULL DEFAULT 0) STRICT;
CREATE TABLE attempts (
    attempt_id text PRIMARY KEY, reference text NOT NULL REFERENCES payments) STRICT;
CREATE TABLE effects (
    id integer PRIMARY KEY, reference text NOT NULL REFERENCES payments, amount text NOT NULL,
    phone_masked text, scenario text NOT NULL, at text NOT NULL) STRICT;
CREATE TABLE callbacks (
    id integer PRIMARY KEY, reference text NOT NULL REFERENCES payments, url text NOT NULL,
    body blob NOT NULL, forged integer NOT NULL, tries integer NOT NULL DEFAULT 0,
    due_at text) STRICT;
INSERT INTO payments VALUES
    ('p1', 's1', 'collection', 'payment', '1000', NULL, 'success', 'succeeded', NULL,
     '2026-11-21T08:00:00.000000+00:00', NULL, 2),
    ('p2', 's2', 'collection', 'payment', '1000', NULL, 'async', 'pending', NULL,
     '2026-11-21T08:00:00.000000+00:00', '2026-11-21T08:00:01.000000+00:00', 0),
    ('p3', 's3', 'collection', 'payment', '1000', NULL, 'payer_rejected', 'failed', NULL,
     '2026-11-21T08:00:00.000000+00:00', NULL, 0);
INSERT INTO effects VALUES (1, 'p1', '1000', NULL, 'success', '2026-11-21T08:00:00.000000+00:00');
"""


def test_file_of_the_first_version_is_taken_over(
    start: Callable[..., Running], tmp_path: Path, eventually: Eventually
) -> None:
    path = tmp_path / "simulator.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_VERSION)
    connection.close()
    for _ in range(2):  # the second start finds the newer tables
        client = start(SIMULATOR_DATABASE_PATH=str(path)).client
        eventually(lambda client=client: enquire(client, "p2")["outcome"] == "succeeded")
        assert enquire(client, "p3")["reason_code"] == "payer_rejected"
        summary = client.get("/_effects/summary").json()
        assert (summary["effects"], summary["repeats"], summary["refunds"]) == (2, 2, 0)
