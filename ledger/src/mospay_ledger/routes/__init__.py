"""HTTP into the ledger, for portal-api, the gateway and the operator: tenant-safe, twice."""

from fastapi import APIRouter
from mospay_shared.chassis.service import Service

from mospay_ledger.routes import (
    accounts,
    client_exceptions,
    customers,
    entries,
    exceptions,
    fees,
    guest,
    invoice_papers,
    invoices,
    logos,
    payers,
    paying,
    payouts,
    provider_statements,
    reversals,
    settlement_files,
    settlements,
    statements,
    trust,
)
from mospay_ledger.routes.entries import posting_hops
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases.paying import Till

__all__ = ["posting_hops", "router"]


def router(service: Service, settings: LedgerSettings, till: Till) -> APIRouter:
    """Return the ledger's routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    accounts.add(routes, service, settings)
    entries.add(routes, service)
    reversals.add(routes, service)
    fees.add(routes, service, settings)
    trust.add(routes, service, settings)
    settlements.add(routes, service, settings)
    settlement_files.add(routes, service, settings)
    payouts.add(routes, service)
    statements.add(routes, service, settings)
    invoice_papers.add(routes, service)  # their paths are narrower than the invoices' own
    customers.add(routes, service, settings)
    logos.add(routes, service)
    invoices.add(routes, service, settings)
    paying.add(routes, service, settings, till)
    guest.add(routes, service, till)
    payers.add(routes, service, till)
    provider_statements.add(routes, service, settings)
    exceptions.add(routes, service, settings)
    client_exceptions.add(routes, service)
    return routes
