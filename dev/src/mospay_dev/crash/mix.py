"""The load of random runs: every way a provider can answer, refunds, cancels, patient clients."""

import asyncio
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from mospay_dev.demo.seed import Seed

PATIENCE_SECONDS = 90.0  # how long a client repeats one wish under one key
# Scenario of the simulator → how often. `late_success` (13) is left out: a decline that the
# provider takes back by a callback that was lost is learnt from its statement alone.
SCENARIOS = {
    0: 40, 1: 6, 2: 3, 3: 8, 4: 4, 5: 10, 6: 5, 7: 3, 8: 3, 9: 1, 10: 2, 11: 4, 12: 5, 14: 2,
    15: 3, 16: 3, 17: 2, 20: 2,
}  # fmt: skip
REFUND_ENDINGS = (0, 0, 0, 1, 4, 5, 6, 7, 8, 10, 11, 12, 16)  # codes of refunds, by amount
REFUND_SHARE, CANCEL_SHARE = 0.08, 0.04


@dataclass
class Sent:
    """What clients were promised: payments and refunds by key; what was refused, by status."""

    payments: dict[str, str] = field(default_factory=dict)
    refunds: dict[str, str] = field(default_factory=dict)
    refund_of: dict[str, str] = field(default_factory=dict)
    owner: dict[str, int] = field(default_factory=dict)  # payment → number of its client
    cancels: list[str] = field(default_factory=list)
    scenarios: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Mix:
    """Open-loop load on several gateways; `seed` decides what is sent, not when it is answered."""

    def __init__(self, made: Seed, gateways: tuple[str, ...], seed: int) -> None:
        self._seed, self._gateways = made, gateways
        self._rng = random.Random(f"mospay crash load {seed}")
        self._prefix = f"{self._rng.getrandbits(32):08x}{time.time_ns():x}"
        self.sent = Sent()
        self._paid: list[str] = []

    async def steady(self, rate: float, seconds: float) -> Sent:
        """Send at a rate a second for some seconds; returns when every wish was answered."""
        tasks: set[asyncio.Task[None]] = set()
        timeout = aiohttp.ClientTimeout(total=10)
        connector = aiohttp.TCPConnector(limit=400, force_close=False)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            started = time.monotonic()
            for number in range(int(rate * seconds)):
                wait = started + number / rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                task = asyncio.create_task(self._one(session, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return self.sent

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        rng = self._rng
        scenario = rng.choices(list(SCENARIOS), list(SCENARIOS.values()))[0]
        key, dice = f"{self._prefix}-{number}", rng.random()
        client = number % len(self._seed.clients)
        body = {
            "service": "collection",
            "route": "payment",
            "amount_minor": 5000,
            "currency": "RWF",
            "phone": f"+2507{rng.randrange(1000, 10000)}{scenario:04}",
            "reference": f"mix-{key}",
            "fields": {"f008": f"pin-{rng.getrandbits(32):08x}"},
        }
        answer = await self._wish(session, client, "/v1/payments", key, body)
        if answer is None:
            return
        payment = str(answer["id"])
        self.sent.payments[key] = payment
        self.sent.owner[payment] = client
        self.sent.scenarios[scenario] += 1
        if scenario in (0, 3):
            self._paid.append(payment)
        if dice < CANCEL_SHARE:
            path = f"/v1/payments/{payment}/cancel"
            if await self._wish(session, client, path, f"{key}-c", {}, quiet=True):
                self.sent.cancels.append(payment)
        elif dice < CANCEL_SHARE + REFUND_SHARE and self._paid:
            await self._refund(session, rng.choice(self._paid), f"{key}-r")

    async def _refund(self, session: aiohttp.ClientSession, payment: str, key: str) -> None:
        amount = 100 * self._rng.randint(1, 12) + self._rng.choice(REFUND_ENDINGS)
        answer = await self._wish(
            session,
            self.sent.owner[payment],
            f"/v1/payments/{payment}/refunds",
            key,
            {"amount_minor": amount},
            quiet=True,  # not paid yet, or nothing left: a refusal is an answer
        )
        if answer is not None:
            self.sent.refunds[key] = str(answer["id"])
            self.sent.refund_of[str(answer["id"])] = payment

    async def _wish(
        self,
        session: aiohttp.ClientSession,
        client: int,
        path: str,
        key: str,
        body: dict[str, Any],
        *,
        quiet: bool = False,
    ) -> dict[str, Any] | None:
        """POST under one key until it is answered; None when it was refused or never answered."""
        headers = {
            "X-API-Key": self._seed.clients[client].api_key,
            "Idempotency-Key": key,
            "Prefer": "wait=0",
        }
        until, turn = time.monotonic() + PATIENCE_SECONDS, zlib.crc32(key.encode())
        while True:
            turn += 1
            try:
                url = self._gateways[turn % len(self._gateways)] + path
                async with session.post(url, json=body, headers=headers) as answer:
                    if answer.status in (200, 201, 202):
                        found: dict[str, Any] = await answer.json()
                        return found
                    if answer.status < 500 and answer.status not in (409, 429):
                        if not quiet:
                            self.sent.refused[str(answer.status)] += 1
                        return None
                    if answer.status == 409 and quiet:
                        return None
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            if time.monotonic() > until:
                self.sent.refused["never answered"] += 1
                return None
            await asyncio.sleep(0.3)
