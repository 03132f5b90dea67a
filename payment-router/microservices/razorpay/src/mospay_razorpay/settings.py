"""Typed environment: every variable starts with RAZORPAY_."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Credentials(BaseModel):
    """What Razorpay knows a merchant by, and the secret its webhooks are signed with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_id: str | None = None
    key_secret: SecretStr | None = None
    webhook_secret: SecretStr | None = None


class Settings(BaseSettings):
    """Addresses, limits and the operator's own credentials, which a client's may override."""

    model_config = SettingsConfigDict(env_prefix="RAZORPAY_", extra="ignore")

    name: str = "razorpay"  # f000, the microservice's name
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database_path: Path = Path("razorpay.sqlite3")

    # The only place a call goes to; test and live differ by the key.
    base_url: HttpUrl = HttpUrl("https://api.razorpay.com")
    # Of payments without X-Currency.
    currency: str = Field("INR", pattern=r"^[A-Z]{3}$")
    # The page that opens Checkout for the payer, with {order_id} and {key_id}; unset: the client's
    # own page does, with what `customer_action` says.
    checkout_url: str | None = Field(None, pattern=r"^https://\S+\{order_id\}\S*$")
    # Checkout may let a payer try again on the same order. For so long after the order was made a
    # failed try says `pending`; 0: the first failed try ends the payment (Checkout, retry: false).
    tries_seconds: float = Field(0, ge=0, le=86_400)

    key_id: str | None = None
    key_secret: SecretStr | None = None
    webhook_secret: SecretStr | None = None

    # Each call; two of them (an enquiry) have to fit into the router's time-out.
    timeout_seconds: float = Field(12, gt=0, le=60)
    # Open connections in; beyond it 503 at once instead of a queue nobody waits for.
    concurrency_limit: int = Field(500, ge=1)
