"""The error tree: RouterError > NotYetKnown, NoSuchPayment, NoSuchRefund, NoSuchThing,
AlreadyThere, StaleVersion, TooMany, NoSuchFunction, VersionRefused, SourceRefused."""


class RouterError(Exception):
    """Base of what the router raises on purpose; `code` is stable."""

    code = "router_error"


class NotYetKnown(RouterError):
    """The command is ahead of this replica of the directory: try again shortly."""

    code = "not_yet_known"


class NoSuchPayment(RouterError):
    """No payment with that id has reached the router (or the caller may not see it)."""

    code = "not_found"


class NoSuchRefund(RouterError):
    """No refund with that id has reached the router (or the caller may not see it)."""

    code = "not_found"


class NoSuchThing(RouterError):
    """What was to be changed is not there."""

    code = "not_found"


class AlreadyThere(RouterError):
    """What was to be added is there."""

    code = "conflict"


class StaleVersion(RouterError):
    """It has changed since it was read; `current` is its version now."""

    code = "stale_version"

    def __init__(self, current: int) -> None:
        super().__init__("It has changed since it was read; read it again")
        self.current = current


class TooMany(RouterError):
    """There are as many as are kept in memory."""

    code = "too_many"


class NoSuchFunction(RouterError):
    """No such function, version or mapping (or the caller may not see it)."""

    code = "not_found"


class VersionRefused(RouterError):
    """A version can't take this step now; `code` says which rule forbids it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SourceRefused(RouterError):
    """A posted source can't be a provider function; `code` says which rule it breaks."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
