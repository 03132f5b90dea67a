"""The scenario table: which outcome, told how, followed by which callbacks."""

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


@dataclass(frozen=True, slots=True)
class CallbackPlan:
    """One callback of a scenario; a forged one carries a signature that can't verify."""

    outcome: Outcome
    forged: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to a payment: recorded `first` on arrival, then succeeded after `settles`."""

    code: int
    name: str
    meaning: str
    first: Outcome
    delivery: Delivery = Delivery.ANSWER
    reason_code: str | None = None
    settles: Literal["async", "late"] | None = None
    callbacks: tuple[CallbackPlan, ...] = ()
    # Whole units taken from the payer beyond the amount that was ordered.
    excess: int = 0


_DONE, _NO, _WAIT, _NONE = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.PENDING, Outcome.UNKNOWN
_PAID = CallbackPlan(Outcome.SUCCEEDED)

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(0, "success", "paid, answered at once", _DONE),
    Scenario(1, "insufficient_funds", "declined", _NO, reason_code="insufficient_funds"),
    Scenario(2, "payer_rejected", "declined by the payer", _NO, reason_code="payer_rejected"),
    Scenario(3, "slow", "paid, answered after SIMULATOR_SLOW_SECONDS", _DONE, Delivery.SLOW),
    Scenario(4, "timeout_paid", "paid, never answered", _DONE, Delivery.HANG),
    Scenario(
        5, "async", "pending, then paid with a callback", _WAIT, settles="async", callbacks=(_PAID,)
    ),
    Scenario(
        6, "async_silent", "pending, then paid; only the enquiry tells", _WAIT, settles="async"
    ),
    Scenario(7, "error_paid", "paid, answered 500", _DONE, Delivery.ERROR),
    Scenario(8, "error_unpaid", "no trace of the payment, answered 500", _NONE, Delivery.ERROR),
    Scenario(9, "wrong_amount", "paid with one unit more than ordered", _DONE, excess=1),
    Scenario(10, "garbage", "paid, answered 200, but not with JSON", _DONE, Delivery.GARBAGE),
    Scenario(11, "cut_paid", "paid, connection reset before the answer", _DONE, Delivery.CUT),
    Scenario(
        12,
        "duplicate_callback",
        "pending, then paid; the same callback twice",
        _WAIT,
        settles="async",
        callbacks=(_PAID, _PAID),
    ),
    Scenario(
        13,
        "late_success",
        "declined, but paid after SIMULATOR_LATE_SECONDS, with a callback",
        _NO,
        reason_code="payer_timeout",
        settles="late",
        callbacks=(_PAID,),
    ),
    Scenario(14, "timeout_unpaid", "no trace of the payment, never answered", _NONE, Delivery.HANG),
    Scenario(
        15,
        "forged_callback",
        "pending, then paid; a forged `failed` callback before the genuine one",
        _WAIT,
        settles="async",
        callbacks=(CallbackPlan(Outcome.FAILED, forged=True), _PAID),
    ),
    Scenario(
        16,
        "reordered_callback",
        "pending, then paid; the `pending` callback after the `succeeded` one",
        _WAIT,
        settles="async",
        callbacks=(_PAID, CallbackPlan(Outcome.PENDING)),
    ),
)
_BY_PHONE = {f"{scenario.code:04}": scenario for scenario in SCENARIOS}
_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SUCCESS: Final = SCENARIOS[0]


def choose_scenario(phone: str | None, amount: str) -> Scenario:
    """By the phone's last four digits, else by the amount's last two whole digits, else success."""
    if phone is not None and (chosen := _BY_PHONE.get(phone[-4:])) is not None:
        return chosen
    code = int(amount.partition(".")[0]) % 100
    return SCENARIOS[code] if code < len(SCENARIOS) else SUCCESS


def scenario_named(name: str) -> Scenario:
    """The scenario of a stored row; KeyError if the table no longer has it."""
    return _BY_NAME[name]
