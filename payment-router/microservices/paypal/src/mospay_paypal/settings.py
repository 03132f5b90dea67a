"""Typed environment: every variable starts with PAYPAL_."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Credentials(BaseModel):
    """What PayPal knows an app by, and the webhook whose events it signs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str | None = None
    client_secret: SecretStr | None = None
    webhook_id: str | None = None


class Settings(BaseSettings):
    """Addresses, limits and the operator's own credentials, which a client's may override."""

    model_config = SettingsConfigDict(env_prefix="PAYPAL_", extra="ignore")

    name: str = "paypal"  # f000, the microservice's name
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database_path: Path = Path("paypal.sqlite3")

    # The only place a call goes to. The sandbox is the default: live money takes a decision.
    base_url: HttpUrl = HttpUrl("https://api-m.sandbox.paypal.com")
    # Of payments without X-Currency.
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    # Where PayPal sends the payer's browser back to; unset: the app's own settings at PayPal.
    return_url: HttpUrl | None = None
    cancel_url: HttpUrl | None = None
    # After so long an approval is no longer captured: the payer may have paid otherwise.
    # PayPal itself keeps an order open for three hours.
    capture_seconds: float = Field(10_800, ge=60, le=259_200)

    client_id: str | None = None
    client_secret: SecretStr | None = None
    webhook_id: str | None = None

    # Each call; two of them (an enquiry that captures) have to fit into the router's time-out.
    timeout_seconds: float = Field(12, gt=0, le=60)
    # Open connections in; beyond it 503 at once instead of a queue nobody waits for.
    concurrency_limit: int = Field(500, ge=1)
