"""Settings of portal-api: every variable starts with PORTAL_."""

from pathlib import Path

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict


class PortalSettings(ServiceSettings):
    """Who people are, how long a session lasts, where the house is."""

    model_config = SettingsConfigDict(env_prefix="PORTAL_", extra="ignore")

    signing_key: SecretStr  # base64 ed25519 seed: signs service tokens
    credential_pepper: SecretStr  # base64, 32 bytes: keys API passwords' hashes, with the gateway
    gateway_url: str
    router_url: str
    ledger_url: str
    notifier_url: str
    reporter_url: str
    public_url: str = "http://127.0.0.1"  # https here makes the cookie Secure and sends HSTS
    web_dir: Path | None = None  # the built web UI

    read_timeout_seconds: float = Field(2.0, gt=0)  # one read of a house service
    trial_seconds: float = Field(40.0, gt=0)  # dry-runs and replays: above the router's own limit
    idle_seconds: int = Field(1800, ge=60)  # a session unused so long has ended
    session_seconds: int = Field(43_200, ge=60)  # a session ends after so long in any case
    payer_idle_seconds: int = Field(900, ge=60)  # a payer's session unused so long has ended
    failures_allowed: int = Field(5, ge=1)  # wrong passwords before a lock
    lock_seconds: int = Field(900, ge=1)  # how long a lock holds
    stream_poll_seconds: float = Field(0.3, gt=0)  # how often the live stream is looked at
    stream_ping_seconds: float = Field(15.0, gt=0)  # keeps proxies from cutting a quiet stream
    stream_check_seconds: float = Field(5.0, gt=0)  # an ended session's stream ends within this
    stream_kept_seconds: int = Field(3600, ge=60)  # replay reaches back so far
    stream_connections: int = Field(500, ge=1)  # open streams of a process
    push_poll_seconds: float = Field(0.25, gt=0, le=1)  # a revocation reaches the gateway in 1 s
    push_retry_seconds: float = Field(2.0, gt=0, le=60)  # the gateway did not acknowledge: again
    expected_seconds: float = Field(20.0, gt=0)  # a hop not seen for so long is called missing

    # Guest pages of invoices, calls a minute: a status page asks 20 times; many payers may share
    # one address (a mobile network's), so an address may do more than one payer does.
    guest_views_per_minute: int = Field(90, ge=1)  # of one link
    guest_address_views_per_minute: int = Field(600, ge=1)
    guest_pays_per_minute: int = Field(6, ge=1)  # of one link, or one payer
    guest_address_pays_per_minute: int = Field(30, ge=1)
    guest_windows: int = Field(20_000, ge=10)  # callers told apart a minute (~200 bytes each)
    guest_pay_seconds: float = Field(
        8.0, gt=0, le=60
    )  # above the ledger's own wait for the gateway
    # Payers, calls of an address; behind a proxy all share one, so raise them and limit there.
    payer_calls_per_minute: int = Field(600, ge=1)
    payer_tries_per_minute: int = Field(30, ge=1)  # passwords and links of mails
    payer_mails_per_hour: int = Field(3, ge=1)  # asked for by one address, and of one IP
    upload_bytes: int = Field(512 * 1024**2, ge=1024)  # a provider's statement, as the ledger takes
    upload_seconds: float = Field(600.0, gt=0)  # the longest upload that is passed on
