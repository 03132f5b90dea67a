"""Rows of the directory as they travel: the contract of each kind."""

from collections.abc import Callable
from typing import Any

from mospay_shared.chassis import telemetry
from mospay_shared.contracts import (
    AppV1,
    AssignmentV1,
    ClientV1,
    CompanyV1,
    Contract,
    CredentialV1,
    IpRuleV1,
    Outgoing,
    ServiceV1,
    outgoing,
)


def company_body(row: Any) -> CompanyV1:
    """Return a company as it travels."""
    return CompanyV1(
        company_id=row["id"], name=row["name"], version=row["version"], deleted=row["deleted"]
    )


def client_body(row: Any) -> ClientV1:
    """Return a client as it travels."""
    return ClientV1(
        client_id=row["id"],
        company_id=row["company_id"],
        name=row["name"],
        apps=[AppV1(**app) for app in row["apps"]],
        currency=row["currency"],
        time_zone=row["time_zone"],
        answer_wait_seconds=row["answer_wait_seconds"],
        rate_per_minute=row["rate_per_minute"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
    )


def service_body(row: Any) -> ServiceV1:
    """Return a service as it travels."""
    return ServiceV1(
        service_id=row["id"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
        **row["body"],
    )


def assignment_body(row: Any) -> AssignmentV1:
    """Return an assignment as it travels."""
    return AssignmentV1(
        assignment_id=row["id"],
        client_id=row["client_id"],
        service_id=row["service_id"],
        limits=row["limits"],
        answer_wait_seconds=row["answer_wait_seconds"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
    )


def credential_body(row: Any) -> CredentialV1:
    """Return a credential as it travels to the gateway: hashes, never the secret."""
    return CredentialV1(
        credential_id=row["id"],
        client_id=row["client_id"],
        app_id=row["app_id"],
        mode=row["mode"],
        kind=row["kind"],
        lookup=row["lookup"],
        secret_hash=row["secret_hash"],
        expires_at=row["expires_at"],
        revoked=row["revoked"],
        rate_per_minute=row["rate_per_minute"],
        version=row["version"],
    )


def ip_rule_body(row: Any) -> IpRuleV1:
    """Return an address rule as it travels."""
    return IpRuleV1(
        ip_rule_id=row["id"],
        client_id=row["client_id"],
        kind=row["kind"],
        cidr=row["cidr"],
        expires_at=row["expires_at"],
        note=row["note"],
        active=row["active"],
        version=row["version"],
        deleted=row["deleted"],
    )


BODIES: dict[str, Callable[[Any], Contract]] = {
    "company": company_body,
    "client": client_body,
    "service": service_body,
    "assignment": assignment_body,
    "credential": credential_body,
    "ip_rule": ip_rule_body,
}


def changed(kind: str, row: Any) -> Outgoing:
    """Return the message that tells of an entity as it is now; credentials go by command."""
    return outgoing(
        f"directory.{kind}_changed.v1",
        row["id"],
        BODIES[kind](row),
        source="portal-api",
        traceparent=telemetry.new_traceparent(telemetry.current_traceparent()),
    )
