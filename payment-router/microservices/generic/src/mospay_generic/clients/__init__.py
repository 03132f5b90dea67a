"""HTTP out: the provider's API."""

from mospay_generic.clients.generic import Provider

__all__ = ["Provider"]
