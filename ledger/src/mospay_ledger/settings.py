"""Settings of the ledger: every variable starts with LEDGER_."""

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class LedgerSettings(ServiceSettings):
    """The default fee applies where no plan of the client or the service says otherwise."""

    model_config = SettingsConfigDict(env_prefix="LEDGER_", extra="ignore")

    default_fee_basis_points: int = Field(200, ge=0, le=10_000)  # 1/100 of a percent
    default_fee_fixed_minor: int = Field(0, ge=0)  # minor units of the payment's currency
    batch_linger_seconds: float = Field(0.05, ge=0, le=1)  # off the payer's path
    batch_limit: int = Field(200, ge=1, le=1000)  # events a transaction
