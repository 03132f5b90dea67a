"""Settings of the ledger: every variable starts with LEDGER_."""

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class LedgerSettings(ServiceSettings):
    """Fee plans are rows, not settings: what was booked names the plan it was booked under."""

    model_config = SettingsConfigDict(env_prefix="LEDGER_", extra="ignore")

    batch_linger_seconds: float = Field(0.05, ge=0, le=1)  # off the payer's path
    batch_limit: int = Field(200, ge=1, le=1000)  # events a transaction
