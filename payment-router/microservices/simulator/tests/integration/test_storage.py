"""What a kill or a restart leaves: every effect, and what was still due."""

import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

import httpx
import pytest


class Running(NamedTuple):
    client: httpx.Client
    process: subprocess.Popen[bytes]


class Receiver(Protocol):
    url: str
    received: Any


def pay(client: httpx.Client, scenario: int, callback_url: str | None = None) -> str:
    reference = f"pay_{uuid.uuid4().hex}"
    body = {"f004": "1000", "f005": f"+25078000{scenario:04}", "f010": reference}
    headers = {} if callback_url is None else {"X-Callback-Url": callback_url}
    client.post("/collection/payment", json=body, headers=headers)
    return reference


def outcome(client: httpx.Client, reference: str) -> str:
    answer = client.post("/collection/paymentStatus", json={"f010": reference}).json()
    return str(answer["outcome"])


def kill(running: Running) -> None:
    running.process.kill()
    running.process.wait()


def test_killed_simulator_keeps_effects_and_dedupes_against_them(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    path = str(tmp_path / "new" / "simulator.sqlite3")
    first = start(SIMULATOR_DATABASE_PATH=path)
    references = [pay(first.client, scenario) for scenario in (0, 0, 1, 7, 8, 9)]
    before = first.client.get("/_effects/summary").json()
    kill(first)

    second = start(SIMULATOR_DATABASE_PATH=path)
    assert second.client.get("/_effects/summary").json() == before
    told = [outcome(second.client, reference) for reference in references]
    assert told == ["succeeded", "succeeded", "failed", "succeeded", "unknown", "succeeded"]
    body = {"f004": "1000", "f010": references[0]}
    assert second.client.post("/collection/payment", json=body).json()["outcome"] == "succeeded"
    report = second.client.get("/_effects", params={"reference": references[0]}).json()
    assert (len(report["effects"]), report["repeats"]) == (1, 1)


def test_killed_simulator_settles_what_was_due_and_calls_back(
    start: Callable[..., Running], receiver: Receiver, tmp_path: Path
) -> None:
    path = str(tmp_path / "simulator.sqlite3")
    # Due two seconds after the request: the kill comes before, whatever the machine's load.
    first = start(SIMULATOR_DATABASE_PATH=path, SIMULATOR_ASYNC_SECONDS="2")
    reference = pay(first.client, 5, receiver.url)
    assert outcome(first.client, reference) == "pending"
    kill(first)

    second = start(SIMULATOR_DATABASE_PATH=path)
    _, body = receiver.received.get(timeout=15)
    assert reference in body.decode()
    assert outcome(second.client, reference) == "succeeded"
    assert second.client.get("/_effects/summary").json()["effects"] == 1


def test_termination_drops_held_connections_but_not_their_effects(
    start: Callable[..., Running], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    path = str(tmp_path / "simulator.sqlite3")
    first = start(SIMULATOR_DATABASE_PATH=path)

    def hang() -> None:
        with pytest.raises(httpx.TransportError):
            pay(first.client, 4)

    waiting = Thread(target=hang)
    waiting.start()
    eventually(lambda: first.client.get("/_effects/summary").json()["effects"] == 1)
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(timeout=10)
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    second = start(SIMULATOR_DATABASE_PATH=path)
    assert second.client.get("/_effects/summary").json()["effects"] == 1
