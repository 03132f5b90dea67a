"""Settings of the reporter: every variable starts with REPORTER_."""

from mospay_shared.chassis.settings import ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class ReporterSettings(ServiceSettings):
    """How messages are gathered, and how long calls and webhook attempts are kept."""

    model_config = SettingsConfigDict(env_prefix="REPORTER_", extra="ignore")

    batch_linger_seconds: float = Field(0.2, ge=0, le=2)  # nobody waits for a figure
    batch_limit: int = Field(500, ge=1, le=2000)  # events a transaction
    call_retention_days: int = Field(90, ge=1, le=3650)  # calls and webhook attempts, row by row
