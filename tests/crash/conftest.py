"""The crash suite's house."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from mospay_dev.crash.house import House

from tests.conftest import end_with_group
from tests.crash.matrix import FOLDER


@pytest.fixture(scope="session")
def house_base() -> Iterator[House]:
    """Started once; fsync on, as in production."""
    house = House.open(FOLDER, print)
    end_with_group("tests/crash", house.close)
    try:
        yield house
    finally:
        house.close()


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
