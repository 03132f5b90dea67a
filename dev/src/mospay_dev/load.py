"""Client apps under load: payments sent as a careful client would, same key until answered."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field

import aiohttp

from mospay_dev.demo.seed import Merchant, Seed

PATIENCE_SECONDS = 60.0  # how long a client keeps asking with one key
PAID = "+250780000000"


@dataclass
class Outcome:
    """What a load got back: payment ids by key, latencies in seconds of first answers."""

    payments: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    retries: int = 0

    @property
    def accepted(self) -> list[str]:
        """The ids of accepted payments."""
        return list(self.payments.values())


class Load:
    """Sends payments to one or more gateways with any number in flight."""

    def __init__(
        self,
        seed: Seed,
        *,
        phones: tuple[str, ...] = (PAID,),
        amount: int = 1000,
        service: str = "collection",
        gateways: tuple[str, ...] = (),
    ) -> None:
        self._seed, self._phones, self._amount = seed, phones, amount
        self._service, self._gateways = service, gateways or (seed.gateway_url,)
        self.outcome = Outcome()
        self._count = 0

    def _request(self) -> tuple[Merchant, dict[str, object], str]:
        number = self._count
        self._count += 1
        client = self._seed.clients[number % len(self._seed.clients)]
        key = secrets.token_hex(16)
        body: dict[str, object] = {
            "service": self._service,
            "route": "payment",
            "amount_minor": self._amount,
            "currency": "RWF",
            "phone": self._phones[number % len(self._phones)],
            "reference": f"load-{key}",
        }
        return client, body, key

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send one payment; connection errors and 5xx are asked again with the same key."""
        client, body, key = self._request()
        headers = {"X-API-Key": client.api_key, "Idempotency-Key": key}
        until = time.monotonic() + PATIENCE_SECONDS
        turn = self._count  # an answer that does not come is looked for at the next gateway
        while True:
            started, turn = time.monotonic(), turn + 1
            try:
                url = f"{self._gateways[turn % len(self._gateways)]}/v1/payments"
                async with session.post(url, json=body, headers=headers) as answer:
                    if answer.status in (200, 201, 202):
                        self.outcome.payments[key] = (await answer.json())["id"]
                        self.outcome.latencies.append(time.monotonic() - started)
                        return
                    if answer.status < 500 and answer.status not in (409, 429):
                        status = str(answer.status)
                        self.outcome.refused[status] = self.outcome.refused.get(status, 0) + 1
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            if time.monotonic() > until:
                self.outcome.refused["gave_up"] = self.outcome.refused.get("gave_up", 0) + 1
                return
            self.outcome.retries += 1
            await asyncio.sleep(0.2)

    async def burst(self, count: int, in_flight: int = 32) -> Outcome:
        """Send `count` payments as fast as `in_flight` senders can."""
        left = count

        async def sender(session: aiohttp.ClientSession) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.send(session)

        async with _session() as session:
            await asyncio.gather(*(sender(session) for _ in range(in_flight)))
        return self.outcome

    async def steady(self, rate: float, seconds: float) -> Outcome:
        """Send at a fixed rate a second (open loop) for some seconds."""
        tasks: set[asyncio.Task[None]] = set()
        async with _session() as session:
            started = time.monotonic()
            for number in range(int(rate * seconds)):
                wait = started + number / rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                task = asyncio.create_task(self.send(session))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return self.outcome


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=15), connector=aiohttp.TCPConnector(limit=512)
    )
