"""Settings of the router, prefix `ROUTER_`; every limit says its unit and why."""

import base64
import os
from typing import Annotated, Literal

from mospay_shared.chassis.main import placeholder_environment
from mospay_shared.chassis.settings import CommaList, ServiceSettings
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

CALLBACK_SECRET_PREFIX = "ROUTER_CALLBACK_SECRET_"  # noqa: S105 - a name, not a secret


def _seconds(value: object) -> object:
    return [float(part) for part in value.split(",")] if isinstance(value, str) else value


Seconds = Annotated[list[float], NoDecode, BeforeValidator(_seconds)]


class RouterSettings(ServiceSettings):
    """What payment-router needs besides what every service has."""

    model_config = SettingsConfigDict(env_prefix="ROUTER_", extra="ignore")

    function_database_url: SecretStr  # role that may only call the dispatcher in schema fx
    secrets_key: SecretStr  # `kid:base64`, the gateway's: opens f007 and f008
    allowed_hosts: CommaList = Field(default_factory=list)  # host:port besides registered ones
    callback_url: str = ""  # the gateway as providers reach it; empty: no X-Callback-Url is sent

    in_flight: int = Field(500, ge=1, le=5_000)  # provider calls at once in this process
    in_flight_per_client: int = Field(250, ge=1)  # so that one client's flood leaves room
    in_flight_per_provider: int = Field(400, ge=1)  # so that one slow provider leaves room
    enquiries_in_flight: int = Field(100, ge=1, le=1_000)  # their own: never behind payments
    refunds_in_flight: int = Field(50, ge=1, le=1_000)  # calls about refunds, their own as well
    breaker_window_seconds: float = Field(30, gt=0)  # calls that count
    breaker_calls: int = Field(20, ge=1)  # fewer prove nothing
    breaker_failing_share: float = Field(0.8, gt=0, le=1)  # no answer or 5xx: then it opens
    breaker_open_seconds: float = Field(5, gt=0)  # doubled with every trial that fails
    lease_margin_seconds: float = Field(2, gt=0)  # beyond the HTTP time-out: storing the answer
    lease_spare_seconds: float = Field(5, gt=0)  # between the claim and the first byte
    enquiry_seconds: Seconds = Field(
        default_factory=lambda: [1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0], min_length=1
    )  # before each enquiry; the last one repeats
    attention_after_seconds: float = Field(86_400, gt=0)  # still unknown then: a person is told
    # After the lease: a busy provider may take a request up that late, having said that it knows
    # none. Too short, and a payment that is paid ends as never sent; long only costs patience.
    not_found_grace_seconds: float = Field(120, ge=0)
    announce_after_seconds: float = Field(2, gt=0)  # a call that takes longer is told as processing
    function_seconds: float = Field(2, gt=0, le=30)  # a batch of functions takes no longer
    function_pool_size: int = Field(4, ge=2, le=6)
    function_source_bytes: int = Field(65_536, ge=1_024, le=262_144)  # of a posted version
    function_versions: int = Field(200, ge=2, le=1_000)  # of one function; they are never dropped
    replay_seconds: float = Field(20, gt=0, le=120)  # a replay ends then, complete or not
    directory_wait_seconds: float = Field(2, ge=0)  # for an entity a command names and we lack
    callback_match_seconds: Seconds = Field(
        default_factory=lambda: [1.0, 2.0, 5.0, 15.0, 60.0, 300.0], min_length=1
    )  # an unmatched callback is tried again after each, then listed as unmatched
    risk_key: SecretStr  # base64, 32 bytes: keys the digests of phones, devices and addresses
    risk_seconds: float = Field(0.05, gt=0, le=1)  # a batch waits no longer for its assessment
    risk_default: Literal["allow", "hold", "refuse"] = "allow"  # where risk has no answer in time
    risk_pool_size: int = Field(2, ge=1, le=4)  # connections; one for each batch under way
    risk_rules_limit: int = Field(1_000, ge=1, le=1_000)  # all are in memory
    risk_entries_limit: int = Field(20_000, ge=1)  # of the lists together; all are in memory
    risk_payer_days: int = Field(400, ge=1)  # a payer not seen for so long is forgotten
    secrets_hours: float = Field(24, gt=0)  # f007 and f008 are erased after this, whatever happens


def callback_secrets() -> dict[str, str]:
    """Return the callback secrets of the environment by their full variable name.

    A service's `connector.callback_secret_env` may name only variables with this prefix.
    """
    return {k: v for k, v in os.environ.items() if k.startswith(CALLBACK_SECRET_PREFIX) and v}


def settings_for_documents() -> RouterSettings:
    """Return settings that are enough to print the API documents."""
    placeholders = placeholder_environment(
        RouterSettings,
        {
            "function_database_url": "postgresql://none",
            "secrets_key": f"k1:{base64.b64encode(bytes(32)).decode()}",
            "risk_key": base64.b64encode(bytes(32)).decode(),
        },
    )
    os.environ.update(placeholders)
    return RouterSettings()
