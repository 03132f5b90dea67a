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

    # Mails about invoices and to payers. Without a host none is sent, and each says so.
    signing_key: SecretStr  # base64 ed25519 seed: asks the ledger for a mail's link
    ledger_url: str
    portal_url: str  # makes the links of payers' mails
    public_url: str = "http://127.0.0.1"  # of the portal: where a mail's link leads
    smtp_host: str = ""
    smtp_port: int = Field(587, ge=1, le=65_535)
    smtp_tls: str = Field("start", pattern="^(start|implicit|none)$")  # none: a trusted network
    smtp_username: str = ""
    smtp_password: SecretStr | None = None
    smtp_from: str = "invoices@localhost"  # the envelope's sender; replies go to the issuer
    smtp_seconds: float = Field(20, gt=0, le=120)  # one mail, connection included
    mail_lease_seconds: int = Field(90, ge=5, le=900)  # above smtp_seconds + the ledger's answer
    mail_poll_seconds: float = Field(2, gt=0, le=60)  # how often due mails are looked for
    mail_batch: int = Field(10, ge=1, le=100)  # mails a turn, one connection each
    mail_attempts: int = Field(10, ge=1, le=50)  # over about a day (5 min doubling, at most 6 h)

    @model_validator(mode="after")
    def _lease_outlives_a_call(self) -> Self:
        if self.lease_seconds < self.timeout_seconds + LEASE_MARGIN_SECONDS:
            raise ValueError(
                f"lease_seconds must exceed timeout_seconds by {LEASE_MARGIN_SECONDS:g} s: "
                "else a second process sends while the first still waits"
            )
        return self
