"""Typed environment of the simulator: every variable starts with SIMULATOR_."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Limits and delays of the simulator. Delays are in the unit their name ends with."""

    model_config = SettingsConfigDict(env_prefix="SIMULATOR_", extra="ignore")

    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # `memory` keeps effects in a dict: benches measure the caller, not this disk.
    record: Literal["sqlite", "memory"] = "sqlite"
    database_path: Path = Path("simulator.sqlite3")

    # Before every payment and enquiry answer, so that a bench has a provider with latency.
    delay_ms: float = Field(default=0, ge=0, le=60_000)
    slow_seconds: float = Field(default=2, ge=0, le=600)
    # Longer than any caller's timeout, or the hanging scenarios would answer after all.
    hang_seconds: float = Field(default=60, ge=0, le=3600)
    async_seconds: float = Field(default=1, ge=0, le=86_400)
    late_seconds: float = Field(default=5, ge=0, le=86_400)
    # How long a payer may take to approve; longer than any test wants to wait: move the clock.
    window_seconds: float = Field(default=120, ge=0, le=86_400)

    # Signs callbacks (hex HMAC-SHA256 of the raw body); unset, callbacks carry no signature.
    callback_secret: SecretStr | None = None
    # One slow receiver must not hold up the others for long.
    callback_timeout_seconds: float = Field(default=5, gt=0, le=60)

    # Beyond this many open connections the server answers 503 at once instead of queueing.
    concurrency_limit: int = Field(default=2000, ge=1)
