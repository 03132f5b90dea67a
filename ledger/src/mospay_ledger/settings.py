"""Settings of the ledger: every variable starts with LEDGER_."""

from mospay_shared.chassis.settings import CommaList, ServiceSettings
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

    # reconciliation
    statement_bytes: int = Field(512 * 1024**2, ge=1024)  # a file; a million lines are 150 MiB
    statement_chunk_bytes: int = Field(1024**2, ge=256, le=16 * 1024**2)  # parsed in 0.1 s
    statement_batch_lines: int = Field(20_000, ge=10, le=100_000)  # a statement stays under 5 s
    statement_faults: int = Field(1000, ge=10, le=100_000)  # written down; more are only counted
    statement_lease_seconds: float = Field(60, ge=1, le=600)  # silent for longer: it has died
    match_window_hours: int = Field(48, ge=1, le=720)  # how far clocks and zones may be apart
    match_grace_hours: int = Field(24, ge=0, le=720)  # before what a statement lacks is missing
    nightly_hour: int = Field(2, ge=0, le=23)  # UTC hour from which the nightly match runs
    exception_hours: int = Field(48, ge=1, le=2160)  # to resolve one, unless its kind is below
    exception_urgent_hours: int = Field(24, ge=1, le=2160)  # missing_there: money that never came
    # minor units one person may post alone, such as RWF=50000; other currencies: none
    one_person_limits: CommaList = Field(default_factory=list)
