"""HTTP in: the field API, `/v1/…`, tokens, callbacks, and the API log around them."""

from typing import Final, TypeGuard

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from mospay_gateway.routes import (
    balances,
    callbacks,
    changes,
    dashboard,
    events,
    field_api,
    invoices,
    payments,
    refunds,
    settlements,
    tokens,
)
from mospay_gateway.routes.parts import Parts

_HOT: Final = (("/v1/payments", {"POST"}),)


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
    balances.add_routes(routes, parts)
    settlements.add_routes(routes, parts)
    invoices.add_routes(routes, parts)
    added = routes.routes[len(before) :]
    routes.routes[:] = [*(_Short(route) for route in added if _is_hot(route)), *added, *before]


def _is_hot(route: BaseRoute) -> TypeGuard[APIRoute]:
    return isinstance(route, APIRoute) and (route.path, route.methods) in _HOT


class _Short(Route):
    """A route's endpoint without what FastAPI puts around it.

    The endpoint takes the request alone and returns a response, so there is nothing to resolve or
    to convert, which costs an eighth of an acceptance. The route itself stays for the document.
    """

    def __init__(self, route: APIRoute) -> None:
        super().__init__(
            route.path, route.endpoint, methods=sorted(route.methods or ()), include_in_schema=False
        )

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match, and say which route it was: the layers around count by it."""
        match, child = super().matches(scope)
        return match, {**child, "route": self} if child else child
