"""Settings of the ledger: every variable starts with LEDGER_."""

import base64

from mospay_shared.chassis.settings import CommaList, ServiceSettings
from pydantic import Field, SecretStr
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
    # the letter head of settlements and statements, until the operator has an issuer in that mode
    operator_name: str = Field("MosPay", max_length=120)
    operator_address: str = Field("", max_length=500)  # lines, with \n between them
    operator_colour: str = Field("#0f5c63", pattern="^#[0-9a-fA-F]{6}$")
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

    # Paying invoices. Keys have no default.
    signing_key: SecretStr  # base64 ed25519 seed: our own service tokens, for the gateway
    secrets_key: SecretStr  # kid:base64 32 bytes: seals a payer's phone until the gateway has it
    gateway_url: str  # accepts the payments of invoices
    gateway_timeout_seconds: float = Field(4, gt=0, le=30)  # then a sweeper sends the key again
    # How long a payment may be sent for the first time: a payer who sees nothing pays otherwise.
    intent_seconds: int = Field(120, ge=5, le=3600)
    # After that, how long an acceptance may still take (statement, lock, clocks apart): only then
    # does "no such key" prove absence.
    absence_seconds: int = Field(60, ge=0, le=3600)
    intent_lease_seconds: int = Field(15, ge=1, le=300)  # above gateway_timeout_seconds
    intent_poll_seconds: float = Field(1, gt=0, le=60)  # how often what is due is looked for
    intent_check_seconds: int = Field(300, ge=1, le=86_400)  # a posted one without news: ask
    intent_limit: int = Field(50, ge=1, le=500)  # intents a turn
    link_days: int = Field(60, ge=1, le=3650)  # a link's life where nobody says otherwise
    reminder_seconds: float = Field(30, ge=1, le=3600)  # how late a mail may be asked for
    reminder_before_days: int = Field(3, ge=1, le=30)  # before an invoice is due
    reminder_overdue_days: int = Field(7, ge=1, le=90)  # after it was due
    reminders_in_test: bool = False  # test mode writes to nobody unless it is told to
    # The client under which the operator itself takes payments; empty: its own invoices (fees) are
    # not paid online but netted.
    operator_client_id: str = ""

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


def document_values() -> dict[str, str]:
    """Return stand-ins with which the documents can be made without an environment."""
    key = base64.b64encode(bytes(32)).decode()
    return {"signing_key": key, "secrets_key": f"none:{key}", "gateway_url": "http://127.0.0.1:1"}
