"""A durable house of the crash suite's own: real processes that tests may kill."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx
import pytest
from mospay_dev.audit import Audit, Auditor
from mospay_dev.demo.seed import Seed, seed
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import EXTRAS, Stack

ALL = (*SERVICES, *EXTRAS)
# An enquiry soon after a time-out keeps the suite short; the schedule itself is the router's.
FAST = {"payment-router": {"ROUTER_LOG_LEVEL": "info"}}


@dataclass
class House:
    """The running stack and its seed."""

    stack: Stack
    seed: Seed

    def heal(self) -> None:
        """Bring back whatever a test has killed and wait until all is ready."""
        self.stack.cluster.start()
        self.stack.start(ALL)

    def audit(self, payments: Sequence[str], seconds: float = 90) -> Audit:
        """Audit these payments and assert that the promise held."""
        assert payments, "nothing was accepted, so nothing is proven"
        found = asyncio.run(Auditor(self.stack, self.seed).run(payments, seconds=seconds))
        assert not found.faults, (found.faults, found.summary())
        assert found.ended == len(payments), found.summary()
        return found

    def simulator(self) -> dict[str, int]:
        """The provider's own counts."""
        url = f"{self.seed.simulator_url}/_effects/summary"
        counts: dict[str, int] = httpx.get(url).json()
        return counts


@pytest.fixture(scope="session")
def house_base() -> Iterator[House]:
    """Started once; fsync on, as in production."""
    stack = Stack(ROOT / ".mospay/crash", durable=True, say=print, extra=FAST)
    try:
        stack.prepare()
        stack.start(ALL)
        yield House(stack, seed(stack))
    finally:
        stack.stop()


@pytest.fixture
def house(house_base: House) -> Iterator[House]:
    """The house, healthy before each test and healed after it."""
    house_base.heal()
    yield house_base
    house_base.heal()


def run_while(load: Awaitable[object], trouble: Callable[[], None], after: float) -> None:
    """Run a load and, `after` seconds into it, cause trouble in a thread."""

    async def both() -> None:
        async def later() -> None:
            await asyncio.sleep(after)
            await asyncio.to_thread(trouble)

        await asyncio.gather(load, later())

    asyncio.run(both())
