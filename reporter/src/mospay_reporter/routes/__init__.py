"""HTTP in, by noun. Callers are services with a token."""

from fastapi import APIRouter
from mospay_shared.chassis.service import Service

from mospay_reporter.routes import dashboard, events, payments


def router(service: Service) -> APIRouter:
    """Return the reporter's routes."""
    routes = APIRouter()
    for part in (payments, events, dashboard):
        routes.include_router(part.router(service))
    return routes
