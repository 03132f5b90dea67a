"""HTTP in: the field API, `/v1/payments`, tokens, callbacks, and the API log around them."""

from fastapi import APIRouter

from mospay_gateway.routes import callbacks, field_api, payments, tokens
from mospay_gateway.routes.parts import Parts


def router(parts: Parts) -> APIRouter:
    """Return every public route of the gateway."""
    routes = APIRouter()
    routes.include_router(tokens.router(parts))
    routes.include_router(field_api.router(parts))
    routes.include_router(payments.router(parts))
    routes.include_router(callbacks.router(parts))
    return routes
