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
    settlement_delay_seconds: int = Field(
        300, ge=0, le=86_400
    )  # after a client's day has ended: news of its last minutes come in
    settlement_lines: int = Field(
        5000, ge=1, le=100_000
    )  # lines a part: holds the client's gate for well under a second
    settlement_batches: int = Field(50, ge=1, le=1000)  # clients a turn of the worker
    settlement_run_clients: int = Field(100, ge=1, le=1000)  # clients a call by hand looks at
    statement_lines: int = Field(50_000, ge=1, le=200_000)  # of a statement: about 40 MB in memory
    paper_lines: int = Field(1000, ge=1, le=5000)  # of a PDF: about 30 pages, a second or two
    # the letter head of settlements and statements
    operator_name: str = Field("MosPay", max_length=120)
    operator_address: str = Field("", max_length=500)  # lines, with \n between them
    operator_colour: str = Field("#0f5c63", pattern="^#[0-9a-fA-F]{6}$")
