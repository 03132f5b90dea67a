"""The scenario tables: which outcome, told how, followed by which news and callbacks."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Outcome(StrEnum):
    """What the provider's own record says; `unknown` means it has no such payment."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PENDING = "pending"
    UNKNOWN = "unknown"


class Delivery(StrEnum):
    """How the answer to the payment request reaches the caller."""

    ANSWER = "answer"
    SLOW = "slow"
    HANG = "hang"
    CUT = "cut"
    ERROR = "error"
    GARBAGE = "garbage"


# How long after what came before it, as SIMULATOR_<NAME>_SECONDS says; all on the movable clock.
Delay = Literal["async", "late", "window"]


@dataclass(frozen=True, slots=True)
class CallbackPlan:
    """One callback of a step; a forged one carries a signature that can't verify."""

    outcome: Outcome
    forged: bool = False
    after: Delay | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a payment or refund turns into, some time after it was taken or after the last step."""

    after: Delay
    outcome: Outcome
    callbacks: tuple[CallbackPlan, ...] = ()
    reason_code: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens: recorded as `first` on arrival, then each of `steps` in its time."""

    code: int
    name: str
    meaning: str
    first: Outcome
    delivery: Delivery = Delivery.ANSWER
    reason_code: str | None = None
    steps: tuple[Step, ...] = ()
    # Whole units taken from the payer beyond the amount that was ordered.
    excess: int = 0
    # Pending until the payer does something: the answer carries `customer_action`.
    customer_action: bool = False


_DONE, _NO, _WAIT, _NONE = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.PENDING, Outcome.UNKNOWN
_TOLD = CallbackPlan(_DONE)
_TOLD_NO = CallbackPlan(_NO)
_FORGED_NO = CallbackPlan(_NO, forged=True)


def _done(*callbacks: CallbackPlan) -> tuple[Step, ...]:
    return (Step("async", _DONE, callbacks),)


_LATE: Final = (Step("late", _DONE, (_TOLD,)),)
_EXPIRES: Final = Step("window", _NO, (_TOLD_NO,), "expired")
_SLOW, _HANG, _CUT = Delivery.SLOW, Delivery.HANG, Delivery.CUT
_ERROR, _GARBAGE = Delivery.ERROR, Delivery.GARBAGE

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(0, "success", "paid", _DONE),
    Scenario(1, "insufficient_funds", "declined", _NO, reason_code="insufficient_funds"),
    Scenario(2, "payer_rejected", "declined by the payer", _NO, reason_code="payer_rejected"),
    Scenario(3, "slow", "paid at once", _DONE, _SLOW),
    Scenario(4, "timeout_paid", "paid at once", _DONE, _HANG),
    Scenario(5, "async", "paid after ASYNC", _WAIT, steps=_done(_TOLD)),
    Scenario(6, "async_silent", "paid after ASYNC", _WAIT, steps=_done()),
    Scenario(7, "error_paid", "paid", _DONE, _ERROR),
    Scenario(8, "error_unpaid", "no trace", _NONE, _ERROR),
    Scenario(9, "wrong_amount", "one unit more is paid", _DONE, excess=1),
    Scenario(10, "garbage", "paid", _DONE, _GARBAGE),
    Scenario(11, "cut_paid", "paid", _DONE, _CUT),
    Scenario(12, "duplicate_callback", "paid after ASYNC", _WAIT, steps=_done(_TOLD, _TOLD)),
    Scenario(
        13,
        "late_success",
        "declined, yet paid after LATE",
        _NO,
        reason_code="payer_timeout",
        steps=_LATE,
    ),
    Scenario(14, "timeout_unpaid", "no trace", _NONE, _HANG),
    Scenario(15, "forged_callback", "paid after ASYNC", _WAIT, steps=_done(_FORGED_NO, _TOLD)),
    Scenario(
        16, "reordered_callback", "paid after ASYNC", _WAIT, steps=_done(_TOLD, CallbackPlan(_WAIT))
    ),
    Scenario(
        17,
        "async_declined",
        "declined after ASYNC",
        _WAIT,
        steps=(Step("async", _NO, (_TOLD_NO,), "payer_rejected"),),
    ),
    Scenario(
        18,
        "customer_action",
        "approved by the payer after ASYNC",
        _WAIT,
        steps=_done(_TOLD),
        customer_action=True,
    ),
    Scenario(
        19,
        "payer_window",
        "never approved, expires after WINDOW",
        _WAIT,
        steps=(_EXPIRES,),
        customer_action=True,
    ),
    Scenario(
        20,
        "late_callback",
        "paid after ASYNC",
        _WAIT,
        steps=_done(CallbackPlan(_DONE, after="late")),
    ),
    Scenario(
        21,
        "expired_then_paid",
        "expires after WINDOW, yet paid LATE after that",
        _WAIT,
        steps=(_EXPIRES, *_LATE),
        customer_action=True,
    ),
)

# A code means the same as with payments wherever both have it.
REFUND_SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(0, "success", "refunded", _DONE),
    Scenario(1, "declined", "declined", _NO, reason_code="refund_declined"),
    Scenario(3, "slow", "refunded at once", _DONE, _SLOW),
    Scenario(4, "timeout_refunded", "refunded at once", _DONE, _HANG),
    Scenario(5, "async", "refunded after ASYNC", _WAIT, steps=_done(_TOLD)),
    Scenario(6, "async_silent", "refunded after ASYNC", _WAIT, steps=_done()),
    Scenario(7, "error_refunded", "refunded", _DONE, _ERROR),
    Scenario(8, "error_unrefunded", "no trace", _NONE, _ERROR),
    Scenario(10, "garbage", "refunded", _DONE, _GARBAGE),
    Scenario(11, "cut_refunded", "refunded", _DONE, _CUT),
    Scenario(12, "duplicate_callback", "refunded after ASYNC", _WAIT, steps=_done(_TOLD, _TOLD)),
    Scenario(
        13,
        "late_success",
        "declined, yet refunded after LATE",
        _NO,
        reason_code="refund_declined",
        steps=_LATE,
    ),
    Scenario(14, "timeout_unrefunded", "no trace", _NONE, _HANG),
    Scenario(15, "forged_callback", "refunded after ASYNC", _WAIT, steps=_done(_FORGED_NO, _TOLD)),
    Scenario(
        16,
        "reordered_callback",
        "refunded after ASYNC",
        _WAIT,
        steps=_done(_TOLD, CallbackPlan(_WAIT)),
    ),
    Scenario(
        17,
        "async_declined",
        "declined after ASYNC",
        _WAIT,
        steps=(Step("async", _NO, (_TOLD_NO,), "refund_declined"),),
    ),
    Scenario(
        20,
        "late_callback",
        "refunded after ASYNC",
        _WAIT,
        steps=_done(CallbackPlan(_DONE, after="late")),
    ),
)
_BY_PHONE = {f"{scenario.code:04}": scenario for scenario in SCENARIOS}
_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
_REFUND_BY_CODE = {scenario.code: scenario for scenario in REFUND_SCENARIOS}
_REFUND_BY_NAME = {scenario.name: scenario for scenario in REFUND_SCENARIOS}
SUCCESS: Final = SCENARIOS[0]
REFUND_SUCCESS: Final = REFUND_SCENARIOS[0]


def choose_scenario(phone: str | None, amount: str) -> Scenario:
    """By the phone's last four digits, else by the amount's last two whole digits, else success."""
    if phone is not None and (chosen := _BY_PHONE.get(phone[-4:])) is not None:
        return chosen
    code = int(amount.partition(".")[0]) % 100
    return SCENARIOS[code] if code < len(SCENARIOS) else SUCCESS


def refund_scenario_of_phone(phone: str | None) -> str | None:
    """The name that a payer's phone chooses for refunds of the payment: it ends in 01 and a code.

    None lets the refund's amount choose.
    """
    if phone is None or phone[-4:-2] != "01":
        return None
    chosen = _REFUND_BY_CODE.get(int(phone[-2:]))
    return None if chosen is None else chosen.name


def choose_refund_scenario(of_phone: str | None, amount_minor: int) -> Scenario:
    """By what the payer's phone chose, else by the last two digits in minor units, else success."""
    if of_phone is not None:
        return _REFUND_BY_NAME[of_phone]
    return _REFUND_BY_CODE.get(amount_minor % 100, REFUND_SUCCESS)


def scenario_named(name: str) -> Scenario:
    """The scenario of a stored payment; KeyError if the table no longer has it."""
    return _BY_NAME[name]


def refund_scenario_named(name: str) -> Scenario:
    """The scenario of a stored refund; KeyError if the table no longer has it."""
    return _REFUND_BY_NAME[name]
