"""The state machine: every state × every kind of evidence, written out (architecture, failure 11).

A cell names the state a payment has afterwards. Forward only: `succeeded` has no exit, a payment
that ended otherwise leaves its end only for money that was proven to have moved.
"""

from dataclasses import dataclass
from enum import StrEnum

from mospay_shared.contracts import FINAL_STATUSES, PaymentStatus


class Evidence(StrEnum):
    """What was learnt about a payment, whoever told it (answer, enquiry, callback, people)."""

    SUCCEEDED = "succeeded"  # reference, amount and currency are ours
    DECLINED = "declined"  # the provider's word that no money moved
    PENDING = "pending"  # the provider has it and has not decided
    UNDEFINED = "undefined"  # time-out, cut, crash, nonsense: anything may have happened
    SILENT = "silent"  # an enquiry that brought nothing: no news
    NEVER_SENT = "never_sent"  # proven: no byte left for the provider
    NOT_FOUND = "not_found"  # an authoritative enquiry, after its grace, knows no such payment
    REFUSED = "refused"  # the provider function refused to make a call
    UNSENT_EXPIRED = "unsent_expired"  # `send_before` passed and no attempt ever left `ready`
    MISMATCH = "mismatch"  # money moved, but in another amount or currency
    PEOPLE_SUCCEEDED = "people_succeeded"  # two people's resolution
    PEOPLE_FAILED = "people_failed"
    HELD_BY_RISK = "held_by_risk"  # risk wants a person to look before anything is sent
    RELEASED = "released"  # a person let a held payment go
    REFUSED_IN_REVIEW = "refused_in_review"  # a person refused a held payment
    CANCELLED = "cancelled"  # asked for by the client, and provably nothing was sent
    ACTION = "action"  # the provider waits for the payer to do something elsewhere
    EXPIRED = "expired"  # the provider's word that the payer's time is over and no money moved


_S, _E = PaymentStatus, Evidence
_PROC, _HELD, _ACT, _UNK = _S.PROCESSING, _S.HELD, _S.REQUIRES_CUSTOMER_ACTION, _S.UNKNOWN
_SUCC, _FAIL, _CANC, _EXP, _CONF = _S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.EXPIRED, _S.CONFLICTED

_COLUMNS = (
    _E.SUCCEEDED,
    _E.DECLINED,
    _E.PENDING,
    _E.UNDEFINED,
    _E.SILENT,
    _E.NEVER_SENT,
    _E.NOT_FOUND,
    _E.REFUSED,
    _E.UNSENT_EXPIRED,
    _E.MISMATCH,
    _E.PEOPLE_SUCCEEDED,
    _E.PEOPLE_FAILED,
    _E.HELD_BY_RISK,
    _E.RELEASED,
    _E.REFUSED_IN_REVIEW,
    _E.CANCELLED,
    _E.ACTION,
    _E.EXPIRED,
)
# fmt: off
_ROWS = {
    #       succ'd declin pendin undefi silent n.sent notfou refuse unsent mismat p.succ p.fail
    #       r.hold releas r.refu cancel action expire
    _PROC: (_SUCC, _FAIL, _PROC, _UNK,  _PROC, _FAIL, _FAIL, _FAIL, _EXP,  _CONF, _SUCC, _FAIL,
            _HELD, _PROC, _PROC, _CANC, _ACT,  _EXP),
    _HELD: (_SUCC, _HELD, _HELD, _HELD, _HELD, _HELD, _HELD, _HELD, _EXP,  _CONF, _SUCC, _FAIL,
            _HELD, _PROC, _CANC, _CANC, _HELD, _HELD),
    _ACT:  (_SUCC, _FAIL, _ACT,  _ACT,  _ACT,  _FAIL, _FAIL, _ACT,  _ACT,  _CONF, _SUCC, _FAIL,
            _ACT,  _ACT,  _ACT,  _ACT,  _ACT,  _EXP),
    _UNK:  (_SUCC, _FAIL, _UNK,  _UNK,  _UNK,  _FAIL, _FAIL, _UNK,  _UNK,  _CONF, _SUCC, _FAIL,
            _UNK,  _UNK,  _UNK,  _UNK,  _UNK,  _EXP),
    _SUCC: (_SUCC,) * 18,
    _FAIL: (_SUCC, *(_FAIL,) * 8, _CONF, *(_FAIL,) * 8),
    _CANC: (_SUCC, *(_CANC,) * 8, _CONF, *(_CANC,) * 8),
    _EXP:  (_SUCC, *(_EXP,) * 8,  _CONF, *(_EXP,) * 8),
    _CONF: (*(_CONF,) * 10, _SUCC, _FAIL, *(_CONF,) * 6),
}
# fmt: on
TABLE: dict[tuple[PaymentStatus, Evidence], PaymentStatus] = {
    (state, evidence): after
    for state, row in _ROWS.items()
    for evidence, after in zip(_COLUMNS, row, strict=True)
}
# The provider takes back what it had proven: nothing changes, a person is told.
CONTRADICTIONS = frozenset(
    (_SUCC, told) for told in (_E.DECLINED, _E.NEVER_SENT, _E.NOT_FOUND, _E.MISMATCH, _E.EXPIRED)
)


@dataclass(frozen=True, slots=True)
class Move:
    """What evidence does to a payment in some state."""

    status: PaymentStatus
    changed: bool
    late: bool
    contradiction: bool


def decide(status: PaymentStatus, evidence: Evidence) -> Move:
    """Return the state after this evidence; `late` marks money proven after another end."""
    after = TABLE[status, evidence]
    return Move(
        status=after,
        changed=after is not status,
        late=status in FINAL_STATUSES and after is _SUCC and status is not _SUCC,
        contradiction=(status, evidence) in CONTRADICTIONS,
    )


def is_final(status: PaymentStatus) -> bool:
    """Say whether nothing more is done about a payment by itself."""
    return status in FINAL_STATUSES
