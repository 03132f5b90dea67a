"""The hash chain: a block a second over what was posted, and the word whether it still holds."""

from dataclasses import dataclass

import structlog
from mospay_shared.chassis.database import Tx

from mospay_ledger.storage import chain

log = structlog.get_logger()
GENESIS = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is not what was sealed."""

    block_id: int | None
    entry_id: str | None
    what: str  # entry_changed | entry_missing | seals_changed | chain_broken | entry_not_sealed


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the chain found; `next_block` is where to go on, None at the end."""

    first_block: int
    last_block: int
    entries: int
    fault: Fault | None
    next_block: int | None
    head_hash: str | None


async def seal(tx: Tx, limit: int) -> int:
    """Seal waiting entries into one block and return how many; 0 when another process seals."""
    if not await chain.sealing_lock(tx):
        return 0
    block = await chain.seal(tx, limit)
    if block is None:
        return 0
    # The hash in the log is the anchor outside this database.
    number, digest, entries = block["id"], block["hash"].hex(), block["entries"]
    tx.after_commit(lambda: log.info("block_sealed", block_id=number, hash=digest, entries=entries))
    return int(block["entries"])


async def verify(tx: Tx, first: int, blocks: int) -> Verified:
    """Recompute at most `blocks` blocks from `first` on and name the first row that is wrong.

    Block `first` must follow the stored hash of the block before it, which the caller verified
    earlier or believes.
    """
    first = max(first, 1)
    headers = await chain.headers(tx, first, blocks)
    previous = await chain.hash_of(tx, first - 1) if first > 1 else GENESIS
    last = headers[-1]["id"] if headers else first - 1
    bad = await chain.first_bad(tx, first, last) if headers else None
    fault: Fault | None = None
    number, entries = first, 0
    for header in headers:
        if bad is not None and bad["block_id"] == header["id"]:
            what = "entry_missing" if bad["missing"] else "entry_changed"
            fault = Fault(header["id"], bad["entry_id"], what)
        elif header["id"] != number or header["previous_hash"] != previous:
            fault = Fault(number, None, "chain_broken")
        elif header["computed"] != header["hash"] or header["found"] != header["entries"]:
            fault = Fault(header["id"], None, "seals_changed")
        if fault is not None:
            break
        previous, number, entries = header["hash"], number + 1, entries + header["entries"]
    ended = number > await chain.head(tx)
    if fault is None and ended and (stranger := await chain.stranger(tx)) is not None:
        fault = Fault(None, stranger, "entry_not_sealed")
    return Verified(
        first_block=first,
        last_block=number - 1,
        entries=entries,
        fault=fault,
        next_block=None if ended or fault else number,
        head_hash=previous.hex() if previous else None,
    )
