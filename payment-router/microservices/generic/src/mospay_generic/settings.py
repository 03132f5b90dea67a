"""Typed environment: every variable starts with GENERIC_."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Credentials(BaseModel):
    """What providers know merchants by; the description says by {name} which goes where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    merchant_id: str | None = None
    webhook_secret: SecretStr | None = None


class Settings(BaseSettings):
    """Addresses, limits and the operator's own credentials, which a client's may override."""

    model_config = SettingsConfigDict(env_prefix="GENERIC_", extra="ignore")

    name: str = "generic"  # f000, the microservice's name
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database_path: Path = Path("generic.sqlite3")

    # What the provider's API looks like: a JSON file (README). Needed to serve.
    description_path: Path | None = None
    # The only place a call goes to; overrides the description's, for its sandbox.
    base_url: HttpUrl | None = None
    # Of payments without X-Currency.
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")

    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    merchant_id: str | None = None
    webhook_secret: SecretStr | None = None

    # The whole call; shorter than the router's (service time-out), or its answer is never read.
    timeout_seconds: float = Field(25, gt=0, le=120)
    # Open connections in; beyond it 503 at once instead of a queue nobody waits for.
    concurrency_limit: int = Field(500, ge=1)
