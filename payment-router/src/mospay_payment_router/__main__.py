"""`python -m mospay_payment_router [serve|migrate|openapi|asyncapi|new-epoch]`."""

import argparse
import asyncio
import sys

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.main import run

from mospay_payment_router.app import NAME, build
from mospay_payment_router.settings import RouterSettings
from mospay_payment_router.usecases.epochs import new_epoch


async def _new_epoch(reason: str) -> None:
    database = Database(NAME, RouterSettings())
    await database.open()
    try:
        async with database.transaction() as tx:
            await new_epoch(tx, reason)
    finally:
        await database.close()


def begin_epoch(arguments: list[str]) -> None:
    """Begin a new epoch after a restore: what was accepted before is only ever asked about."""
    parser = argparse.ArgumentParser(prog="python -m mospay_payment_router new-epoch")
    parser.add_argument("--reason", required=True, help="which backup was restored, and why")
    asyncio.run(_new_epoch(parser.parse_args(arguments).reason))
    sys.stdout.write("a new epoch has begun; start the routers now\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["new-epoch"]:
        begin_epoch(sys.argv[2:])
    else:
        run(build)
