"""HTTP in: the field API, `/v1/payments`, tokens, callbacks, and the API log around them."""

from fastapi import FastAPI

from mospay_gateway.routes import (
    callbacks,
    changes,
    dashboard,
    events,
    field_api,
    payments,
    refunds,
    tokens,
)
from mospay_gateway.routes.parts import Parts


def add_routes(app: FastAPI, parts: Parts) -> None:
    """Add every public route, before those the app already has.

    They sit on the app's own router and the hottest come first: matching tries routes one by one,
    and a router inside a router costs a fifth of an acceptance.
    """
    routes = app.router
    before = list(routes.routes)
    payments.add_routes(routes, parts)
    changes.add_routes(routes, parts)
    refunds.add_routes(routes, parts)
    events.add_routes(routes, parts)
    dashboard.add_routes(routes, parts)
    field_api.add_routes(routes, parts)
    tokens.add_routes(routes, parts)
    callbacks.add_routes(routes, parts)
    routes.routes[:] = [*routes.routes[len(before) :], *before]
