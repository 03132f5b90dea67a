"""Typed environment: every variable starts with MTN_."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Credentials(BaseModel):
    """What MTN knows a merchant by; one set a product, as MTN issues them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_user: str | None = None
    api_key: SecretStr | None = None
    subscription_key: SecretStr | None = None
    # Refunds are a product of their own (Disbursements) with their own user and keys.
    disbursement_api_user: str | None = None
    disbursement_api_key: SecretStr | None = None
    disbursement_subscription_key: SecretStr | None = None


class Settings(BaseSettings):
    """Addresses, limits and the operator's own credentials, which a client's may override."""

    model_config = SettingsConfigDict(env_prefix="MTN_", extra="ignore")

    name: str = "mtnmomorwa"  # f000, the microservice's name
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database_path: Path = Path("mtnmomo.sqlite3")

    # The only place a call goes to. The sandbox is the default: live money takes a decision.
    base_url: HttpUrl = HttpUrl("https://sandbox.momodeveloper.mtn.com")
    target_environment: str = "sandbox"  # live: mtnrwanda, mtnuganda, …
    # Of payments without X-Currency; the sandbox knows EUR alone.
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$")
    # Shown to the payer; MTN refuses apostrophes and more than 160 characters.
    payer_message: str = Field("Payment", pattern=r"^[A-Za-z0-9 .,-]{1,160}$")

    api_user: str | None = None
    api_key: SecretStr | None = None
    subscription_key: SecretStr | None = None
    disbursement_api_user: str | None = None
    disbursement_api_key: SecretStr | None = None
    disbursement_subscription_key: SecretStr | None = None

    # The whole call; shorter than the router's (service time-out), or its answer is never read.
    timeout_seconds: float = Field(25, gt=0, le=120)
    # Open connections in; beyond it 503 at once instead of a queue nobody waits for.
    concurrency_limit: int = Field(500, ge=1)
