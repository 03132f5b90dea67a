"""HTTP in, for gateway and portal-api alone: payments, refunds, providers, risk, functions."""

from fastapi import APIRouter
from mospay_shared.chassis.service import Service

from mospay_payment_router.routes import functions, payments, providers, risk, trials
from mospay_payment_router.routes.desk import Desk as Desk
from mospay_payment_router.usecases.providers import Providers
from mospay_payment_router.usecases.risk_rules import RiskSettings


def router(
    service: Service, known: Providers, risk_settings: RiskSettings, desk: Desk
) -> APIRouter:
    """Return the internal routes."""
    api = APIRouter(tags=["internal"])
    payments.add_routes(api, service)
    providers.add_routes(api, service, known)
    risk.add_routes(api, service, risk_settings)
    functions.add_routes(api, desk)
    trials.add_routes(api, desk)
    return api
