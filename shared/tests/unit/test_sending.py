"""Messages on their way out: the catalogue says whether one is an event or a command."""

import pytest
from mospay_shared.contracts import MESSAGES, SnapshotRequestedV1, outgoing
from pydantic import BaseModel


class Body(BaseModel):
    """Any body."""

    name: str = "x"


@pytest.mark.parametrize("wire_type", sorted(MESSAGES))
def test_a_message_is_command_or_event_as_the_catalogue_says(wire_type: str) -> None:
    sent = outgoing(wire_type, "pay_x", Body(), source="gateway")
    assert (sent.type, sent.command) == (wire_type, MESSAGES[wire_type].command)


def test_a_type_that_is_not_in_the_catalogue_is_not_sent() -> None:
    body = SnapshotRequestedV1(request_id="snp_x", requested_by="gateway", credentials=False)
    with pytest.raises(KeyError, match=r"payment\.invented\.v1"):
        outgoing("payment.invented.v1", "pay_x", body, source="gateway")
