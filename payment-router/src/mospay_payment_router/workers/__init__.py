"""Time in: the sender, and the rounds over what is due."""

from mospay_payment_router.workers.rounds import Rounds
from mospay_payment_router.workers.sender import Sender

__all__ = ["Rounds", "Sender"]
