"""Time in: the sender, the rounds over what is due, and those of refunds."""

from mospay_payment_router.workers.refunds import RefundRounds
from mospay_payment_router.workers.rounds import Rounds
from mospay_payment_router.workers.sender import Sender

__all__ = ["RefundRounds", "Rounds", "Sender"]
