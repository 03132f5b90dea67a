"""HTTP into the ledger, for portal-api and the operator: tenant-safe by query and RLS."""

from fastapi import APIRouter
from mospay_shared.chassis.service import Service

from mospay_ledger.routes import accounts, entries, exceptions, fees, statements, trust
from mospay_ledger.routes.entries import posting_hops
from mospay_ledger.settings import LedgerSettings

__all__ = ["posting_hops", "router"]


def router(service: Service, settings: LedgerSettings) -> APIRouter:
    """Return the ledger's routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    accounts.add(routes, service, settings)
    entries.add(routes, service)
    fees.add(routes, service, settings)
    trust.add(routes, service, settings)
    statements.add(routes, service, settings)
    exceptions.add(routes, service, settings)
    return routes
