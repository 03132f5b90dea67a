"""Settings of the ledger: every variable starts with LEDGER_."""

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class LedgerSettings(ServiceSettings):
    """Fee plans are rows, not settings: what was booked names the plan it was booked under."""

    model_config = SettingsConfigDict(env_prefix="LEDGER_", extra="ignore")

    batch_linger_seconds: float = Field(0.05, ge=0, le=1)  # off the payer's path
    batch_limit: int = Field(200, ge=1, le=1000)  # events a transaction
    block_seconds: float = Field(1.0, ge=0.1, le=60)  # how long an entry may wait for its block
    block_limit: int = Field(5000, ge=1, le=50_000)  # entries a block: a seal stays under 1 s
    verify_blocks: int = Field(500, ge=1, le=10_000)  # blocks a call verifies: one statement's time
    trial_accounts: int = Field(500, ge=1, le=5000)  # accounts listed a currency; totals are whole
    simulate_days: int = Field(30, ge=1, le=366)  # how far back a fee simulation looks
    simulate_amounts: int = Field(
        50_000, ge=1, le=500_000
    )  # distinct amounts: under 0.2 s to price
    customer_list_bytes: int = Field(
        2_000_000, ge=1000, le=20_000_000
    )  # a customer list, in memory
    customer_list_rows: int = Field(
        5000, ge=1, le=50_000
    )  # customers a list: one statement, under 1 s
    overdue_seconds: float = Field(60, ge=1, le=3600)  # how late an overdue invoice may be told
    fee_seconds: float = Field(3600, ge=10, le=86_400)  # how often a month's end is looked for
    fee_months: int = Field(3, ge=1, le=24)  # months back that are closed if they were missed
    invoice_batch: int = Field(200, ge=1, le=1000)  # invoices a turn: its locks last under 1 s
