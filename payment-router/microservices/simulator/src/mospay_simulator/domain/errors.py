"""What the simulator refuses.

SimulatorError
├── MalformedError       a field of the request is wrong; names every wrong field
├── BodyTooLargeError    more than BODY_BYTES_MAX
└── AttemptReusedError   an attempt id that was already used for another reference or refund
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its name on the wire, a stable code, and words for a person."""

    field: str
    code: str
    message: str


class SimulatorError(Exception):
    """Root of what the simulator refuses."""

    code = "error"


class MalformedError(SimulatorError):
    """The request can't be understood; `errors` names every wrong field."""

    code = "malformed"

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(", ".join(error.field for error in errors))
        self.errors = errors


class BodyTooLargeError(SimulatorError):
    """The body is longer than BODY_BYTES_MAX."""

    code = "body_too_large"


class AttemptReusedError(SimulatorError):
    """The attempt id belongs to another reference or refund, so nothing was done."""

    code = "attempt_reused"
