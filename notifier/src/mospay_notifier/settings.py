"""Settings of the notifier: every variable starts with NOTIFIER_."""

from typing import Annotated, Self

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

HOUR = 3600.0
LEASE_MARGIN_SECONDS = 1.0  # to store a result after the longest call
SCHEDULE = (0.0, 5.0, 300.0, 1800.0, *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)))


def _numbers(value: object) -> object:
    return [float(part) for part in value.split(",")] if isinstance(value, str) else value


class NotifierSettings(ServiceSettings):
    """How deliveries are made. The schedule is the one of Standard Webhooks' authors."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", extra="ignore")

    secrets_key: SecretStr  # `kid:base64[,…]`: seals endpoints' secrets at rest
    # seconds to wait before each attempt; the list's length is the number of attempts
    schedule_seconds: Annotated[list[float], NoDecode, BeforeValidator(_numbers)] = Field(
        default_factory=lambda: list(SCHEDULE)
    )
    timeout_seconds: float = Field(15, gt=0, le=60)  # one attempt, connection included
    in_flight: int = Field(300, ge=1, le=2000)  # open calls of a process
    in_flight_endpoint: int = Field(30, ge=1)  # open calls to one endpoint: a dead one stays small
    in_flight_client: int = Field(100, ge=1)  # open calls to one client's endpoints together
    lease_seconds: float = Field(60, gt=0)  # more than a time-out; then another process may send
    batch_linger_seconds: float = Field(0.02, ge=0, le=1)  # off the payer's path
    batch_limit: int = Field(200, ge=1, le=1000)  # events a transaction
    rotation_overlap_seconds: int = Field(86_400, ge=0)  # the old secret signs as well so long
    endpoints_limit: int = Field(20, ge=1)  # endpoints of a client and mode

    @model_validator(mode="after")
    def _lease_outlives_a_call(self) -> Self:
        if self.lease_seconds < self.timeout_seconds + LEASE_MARGIN_SECONDS:
            raise ValueError(
                f"lease_seconds must exceed timeout_seconds by {LEASE_MARGIN_SECONDS:g} s: "
                "else a second process sends while the first still waits"
            )
        return self
