"""Settings of the gateway: every variable starts with GATEWAY_."""

import base64

from mospay_shared.chassis.settings import CommaList, Networks, ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict


class GatewaySettings(ServiceSettings):
    """Keys have no default: a gateway without its own keys must not start."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore")

    signing_key: SecretStr  # base64 ed25519 seed: client tokens and our own service tokens
    secrets_key: SecretStr  # kid:base64 32 bytes, shared with payment-router: seals f007/f008
    credential_pepper: SecretStr  # base64 32 bytes, shared with portal-api: API passwords
    router_url: str  # where GET of an open payment reads through to
    reporter_url: str  # answers the dashboard endpoints
    ledger_url: str  # answers for the books: balances, settlements, invoices
    allowed_origins: CommaList = Field(default_factory=list)  # CORS; empty allows no browser
    # base64 ed25519 seeds, comma-separated: tokens made before a rotation are good until they end
    previous_signing_keys: SecretStr = SecretStr("")
    # whose X-Forwarded-For is believed: our own reverse proxies, nobody else's
    trusted_proxies: Networks = Field(default_factory=list)

    # calls a minute where the directory names none: an honest client app never comes near
    client_rate_per_minute: int = Field(6_000, ge=1)  # of a client in one mode
    address_rate_per_minute: int = Field(12_000, ge=1)  # of an address (IPv6: a /64), any client
    callback_rate_per_minute: int = Field(6_000, ge=1)  # of an address on callback paths
    token_rate_per_minute: int = Field(600, ge=1)  # of an address on the token path
    limits_capacity: int = Field(50_000, ge=100)  # windows a policy (~300 bytes each) in memory
    redis_timeout_seconds: float = Field(0.5, gt=0, le=5)  # then limits go on in memory alone
    limits_sync_seconds: float = Field(0.1, gt=0, le=5)  # how often processes tell each other
    security_window_seconds: float = Field(10, gt=0, le=300)  # refusals alike are one event in it
    security_capacity: int = Field(2_000, ge=10)  # refusals told apart within a window
    body_seconds: float = Field(10, gt=0, le=120)  # a body is whole by then: slow ones hold memory

    token_seconds: int = Field(900, ge=60, le=3600)  # a client token lives 15 minutes
    router_timeout_seconds: float = Field(0.3, gt=0, le=5)  # then the local row is the answer
    reporter_timeout_seconds: float = Field(5, gt=0, le=30)  # then a dashboard call is a 503
    # reads of the books: a ledger that is slow holds these, and nothing payments need
    ledger_timeout_seconds: float = Field(5, gt=0, le=30)  # with the wait for a place: then 503
    ledger_paper_seconds: float = Field(20, gt=0, le=60)  # until a file begins: PDFs take seconds
    ledger_file_seconds: float = Field(120, gt=0, le=600)  # a whole file; then it is cut
    ledger_calls: int = Field(16, ge=1, le=200)  # at once, a process
    ledger_calls_of_client: int = Field(8, ge=1, le=200)  # of those and who waits; then 429
    ledger_files: int = Field(4, ge=1, le=50)  # at once, a process: each may last long
    ledger_files_of_client: int = Field(2, ge=1, le=50)
    body_limit_bytes: int = Field(1024 * 1024, ge=1024)  # a batch of 1000 sale events fits
    accept_limit: int = Field(100, ge=1, le=500)  # acceptances a statement
    accept_runners: int = Field(2, ge=1, le=4)  # statements at once
    waiter_poll_seconds: float = Field(0.03, gt=0, le=1)  # while anybody waits
    callback_limit_bytes: int = Field(128 * 1024, ge=1024, le=150_000)  # fits one event (256 KiB)
    api_log_capacity: int = Field(10_000, ge=100)  # calls held in memory; older ones are dropped
    api_log_flush_seconds: float = Field(0.2, gt=0, le=5)  # one publish gathers these
    idempotency_hours: int = Field(72, ge=24)  # kept at least a day; references are kept for ever
    secrets_hours: int = Field(24, ge=1, le=24)  # f007/f008 are erased by then at the latest
    callback_days: int = Field(30, ge=1)  # raw callbacks are dropped after that
    unseen_seconds: int = Field(5, ge=1)  # accepted that long ago without router's news: a metric
    news_check_seconds: int = Field(30, ge=1)  # an open payment's news is asked for that often
    reannounce_seconds: int = Field(60, ge=5)  # the router's 404 for older ones: told it again
    refund_announce_hours: int = Field(24, ge=1)  # then it is told of no more: a person looks
    enquire_seconds: int = Field(5, ge=1)  # one enquiry a payment, however often clients ask
    limit_counter_days: int = Field(3, ge=2)  # daily limits count today, somewhere on earth
    sale_event_days: int = Field(400, ge=30)  # a repeated sale event is recognised that long


def document_values() -> dict[str, str]:
    """Return stand-ins with which the documents can be made without an environment."""
    key = base64.b64encode(bytes(32)).decode()
    return {
        "signing_key": key,
        "secrets_key": f"none:{key}",
        "credential_pepper": key,
        "router_url": "http://127.0.0.1:1",
        "reporter_url": "http://127.0.0.1:1",
        "ledger_url": "http://127.0.0.1:1",
    }
