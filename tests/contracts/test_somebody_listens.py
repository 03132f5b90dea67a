"""An event no queue is bound for is refused by the broker: each type has somebody who reads it.

Read from the committed AsyncAPI documents, which are made from the queues of the code.
"""

from pathlib import Path

import orjson
from mospay_dev.services import ROOT, SERVICES
from mospay_shared.contracts import MESSAGES


def read_by(path: Path) -> set[str]:
    """Return the wire types a service's document says it receives."""
    document = orjson.loads(path.read_bytes())
    received = {
        operation["channel"]["$ref"].rpartition("/")[2]
        for operation in document["operations"].values()
        if operation["action"] == "receive"
    }
    return {name for channel in received for name in document["channels"][channel]["messages"]}


def test_every_message_has_a_reader() -> None:
    read = set().union(*(read_by(ROOT / name / "asyncapi.json") for name in SERVICES))
    assert set(MESSAGES) - read == set()
