"""The error tree: RouterError > NotYetKnown, NoSuchPayment."""


class RouterError(Exception):
    """Base of what the router raises on purpose; `code` is stable."""

    code = "router_error"


class NotYetKnown(RouterError):
    """The command is ahead of this replica of the directory: try again shortly."""

    code = "not_yet_known"


class NoSuchPayment(RouterError):
    """No payment with that id has reached the router (or the caller may not see it)."""

    code = "not_found"
