"""The demo's story: five payments, one trace, the books, a webhook, today's numbers."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from mospay_dev.demo.portal import Portal
from mospay_dev.demo.seed import Merchant, Seed, seed
from mospay_dev.services import SERVICES
from mospay_dev.stack import Stack, describe

FINAL = {"succeeded", "failed", "cancelled", "expired", "conflicted"}
WAIT_SECONDS = 60.0
Say = Callable[[str], None]
out = Console(highlight=False, width=110)


class Story:
    """Sends the payments and checks what became of each."""

    def __init__(self, made: Seed) -> None:
        self._seed = made
        self._gateway = httpx.Client(base_url=made.gateway_url, timeout=70)
        self.payments: list[dict[str, Any]] = []
        self.faults: list[str] = []

    def check(self, fact: bool, what: str) -> None:
        """Note a fault when a fact does not hold."""
        out.print(f"   {'[green]✓[/green]' if fact else '[red]✗[/red]'} {what}")
        if not fact:
            self.faults.append(what)

    def field_body(self, client: Merchant, amount: str, phone: str) -> dict[str, str]:
        """Return a field API body, f000…f010."""
        return {
            "f000": "simulator",
            "f001": "collection",
            "f002": "payment",
            "f003": client.app_id,
            "f004": amount,
            "f005": phone,
            "f006": "customer123",
            "f007": "",
            "f008": secrets.token_hex(8),
            "f009": "device_demo",
            "f010": f"txn_{secrets.token_hex(8)}",
        }

    def field_payment(self, client: Merchant, amount: str, phone: str) -> dict[str, Any]:
        """Pay through the field API, waiting for the final result."""
        answer = self._gateway.post(
            "/api/v1/payment/process",
            json=self.field_body(client, amount, phone),
            auth=(client.username, client.password),
            headers={"App-ID": client.app_id},
        )
        return {"http": answer.status_code, **answer.json()}

    def payment(
        self, client: Merchant, amount_minor: int, phone: str, key: str, wait: int
    ) -> httpx.Response:
        """Pay through `POST /v1/payments`."""
        return self._gateway.post(
            "/v1/payments",
            json={
                "service": "collection",
                "route": "payment",
                "amount_minor": amount_minor,
                "currency": "RWF",
                "phone": phone,
                "reference": f"order-{key}",
                "customer_id": "cust_demo",
                "product_name": "Tea, 1 kg",
            },
            headers={
                "X-API-Key": client.api_key,
                "Idempotency-Key": key,
                "Prefer": f"wait={wait}",
            },
        )

    def end_of(self, client: Merchant, payment_id: str) -> dict[str, Any]:
        """Ask until the payment has ended, or time is up; return it."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            answer = self._gateway.get(
                f"/v1/payments/{payment_id}", headers={"X-API-Key": client.api_key}
            )
            body: dict[str, Any] = answer.json()
            if body.get("status") in FINAL or time.monotonic() > until:
                return body
            time.sleep(0.2)

    def effects(self, payment_id: str) -> int:
        """Count what the simulator did for a payment, from its own record."""
        answer = httpx.get(f"{self._seed.simulator_url}/_effects", params={"reference": payment_id})
        return len(answer.json()["effects"])

    def webhook(self, payment_id: str, kind: str) -> dict[str, Any] | None:
        """Wait for the verified webhook of a payment's end."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            answer = httpx.get(
                f"{self._seed.webhook_receiver_url}/_received", params={"payment_id": payment_id}
            )
            for one in answer.json():
                if one["verified"] and one["type"] == kind:
                    found: dict[str, Any] = one
                    return found
            time.sleep(0.1)
        return None

    def note(self, scenario: str, payment_id: str, status: str, effects: int) -> None:
        """Keep a payment's result and check effects and webhook."""
        count = self.effects(payment_id)
        self.check(count == effects, f"the provider's own record shows {count} effect(s)")
        hook = self.webhook(payment_id, f"payment.{status}")
        self.check(hook is not None, f"the merchant got a signed webhook payment.{status}")
        self.payments.append(
            {
                "id": payment_id,
                "scenario": scenario,
                "status": status,
                "provider_effects": count,
                "webhook_verified": hook is not None,
            }
        )

    def run(self) -> None:
        """Send the five payments."""
        first, second = self._seed.clients
        out.rule("1  A payment through the field API, waiting for its result")
        answer = self.field_payment(first, "1500", "+250780000000")
        ended = self.end_of(first, str(answer.get("payment_id")))
        self.check(
            answer["http"] == 200 and ended.get("status") == "succeeded",
            f"1,500 RWF: the answer itself says {ended.get('status')} (HTTP {answer['http']})",
        )
        self.note("field_api_success", ended.get("id", ""), "succeeded", 1)

        out.rule("2  A payment through POST /v1/payments")
        key = secrets.token_hex(12)
        started = self.payment(second, 25_000, "+250780000000", key, wait=20)
        paid = self.end_of(second, started.json().get("id", ""))
        self.check(paid.get("status") == "succeeded", "25,000 RWF succeeded")
        self.note("v1_success", paid.get("id", ""), "succeeded", 1)

        out.rule("3  The same request again, same Idempotency-Key")
        again = self.payment(second, 25_000, "+250780000000", key, wait=0)
        self.check(
            again.json().get("id") == paid.get("id")
            and again.headers.get("Idempotent-Replayed") == "true",
            "it is answered from the record: the same payment, nothing sent again",
        )
        self.note("replayed_key", paid.get("id", ""), "succeeded", 1)

        out.rule("4  A payment the payer's provider declines")
        refused = self.payment(first, 3_000, "+250780000001", secrets.token_hex(12), wait=20)
        ended = self.end_of(first, refused.json().get("id", ""))
        self.check(
            ended.get("status") == "failed",
            f"3,000 RWF failed: {ended.get('reason_code')} ({ended.get('reason_message')})",
        )
        self.note("declined", ended.get("id", ""), "failed", 0)

        out.rule("5  The provider is paid but its answer never arrives")
        lost = self.payment(first, 7_000, "+250780000004", secrets.token_hex(12), wait=1)
        self.check(lost.status_code == 202, "accepted; no answer yet, so nothing is guessed")
        ended = self.end_of(first, lost.json().get("id", ""))
        self.check(
            ended.get("status") == "succeeded",
            "the provider was asked what happened, and the payment ended succeeded",
        )
        self.note("timeout_but_paid", ended.get("id", ""), "succeeded", 1)


def show_trace(portal: Portal, payment_id: str, wanted: set[str]) -> list[dict[str, Any]]:
    """Print one payment's hops in order, once every wanted service has one; return them."""
    out.rule(f"The trace of {payment_id}")
    until = time.monotonic() + 20
    while True:
        trace: dict[str, Any] = portal.get(f"/payments/{payment_id}/trace")
        if wanted <= {hop["service"] for hop in trace["hops"]} or time.monotonic() > until:
            break
        time.sleep(0.2)
    out.print(f"   {trace['explanation']['headline']}")
    for hop in trace["hops"]:
        at = str(hop.get("received_at") or hop.get("published_at") or "")[11:23]
        name, detail = hop["name"], hop.get("detail") or ""
        line = f"   {at:12}  {hop['service']:15} {name:32} {hop['outcome']:8} {detail}"
        out.print(line, markup=False, no_wrap=True, overflow="ellipsis")
    hops: list[dict[str, Any]] = trace["hops"]
    return hops


def wait_for_books(portal: Portal, succeeded: int) -> dict[str, Any]:
    """Return the trial balance once it holds an entry for each success (or time is up)."""
    until = time.monotonic() + 20
    while True:
        books: dict[str, Any] = portal.get("/trial-balance", mode="test")
        if books["entries"] >= succeeded or time.monotonic() > until:
            return books
        time.sleep(0.2)


def show_books(books: dict[str, Any]) -> None:
    """Print the trial balance."""
    out.rule("The books")
    for block in books["currencies"]:
        for account in block["accounts"]:
            out.print(
                f"   {account['account']:72} {account['balance_minor']:>14,} {block['currency']}"
            )
        out.print(
            f"   {'debits / credits':50} {block['debit_minor']:>14,} / {block['credit_minor']:>14,}"
        )


def wait_for_numbers(portal: Portal, at_least: int) -> dict[str, Any]:
    """Return today's numbers once the reporter has counted these payments (or time is up)."""
    until = time.monotonic() + 20
    while True:
        numbers: dict[str, Any] = portal.get("/dashboard", mode="test", range="24h")
        if numbers["kpis"]["payments_today"] >= at_least or time.monotonic() > until:
            return numbers
        time.sleep(0.2)


def run_demo(stack: Stack, *, say: Say, json_file: Path | None, started: float) -> bool:
    """Seed, pay, show; return whether every step did what it should."""
    made = seed(stack, say)
    story = Story(made)
    story.run()
    portal = Portal(made.portal_url)
    portal.sign_in(made.admin["email"], made.admin["password"], "admin")
    wanted = set(SERVICES) - {"portal-api"}
    hops = show_trace(portal, story.payments[1]["id"], wanted)
    seen = {hop["service"] for hop in hops}
    story.check(wanted <= seen, f"the trace has hops of {', '.join(sorted(seen))}")
    books = wait_for_books(
        portal, len({p["id"] for p in story.payments if p["status"] == "succeeded"})
    )
    show_books(books)
    story.check(books["balanced"], f"the books balance over {books['entries']} entries")
    hook = story.webhook(story.payments[1]["id"], "payment.succeeded") or {}
    out.rule("The webhook")
    arrived = f"{hook.get('type')} {hook.get('webhook_id')} arrived {hook.get('at')}, verified"
    story.check(bool(hook), arrived)
    numbers = wait_for_numbers(portal, len({p["id"] for p in story.payments}))
    kpis = numbers["kpis"]
    out.rule("Today")
    volume, currency = kpis["volume_minor"], numbers["currency"]
    out.print(f"   {kpis['payments_today']} payments, {volume:,} {currency} collected")
    services = describe(stack)["services"]
    assert isinstance(services, dict)
    result = {
        "payments": story.payments,
        "ledger": {"balanced": books["balanced"], "entries": books["entries"]},
        "reporter": {"payments_today": kpis["payments_today"]},
        "services": [{"name": n, "ready": services[n]["ready"]} for n in SERVICES],
        "seconds": round(time.monotonic() - started, 1),
    }
    story.check(kpis["payments_today"] >= 4, "today's numbers count the payments")
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2))
    out.rule()
    client = made.clients[0]
    out.print(
        f"Portal  {made.portal_url}/admin/login   {made.admin['email']} / {made.admin['password']}"
    )
    out.print(
        f"        {made.portal_url}/client/login  {client.client_email} / {client.client_password}"
    )
    out.print(f"Everything a client app needs is in {stack.folder / 'demo.json'} (mode 600).")
    if story.faults:
        out.print(f"[red]{len(story.faults)} step(s) failed:[/red] " + "; ".join(story.faults))
    return not story.faults
