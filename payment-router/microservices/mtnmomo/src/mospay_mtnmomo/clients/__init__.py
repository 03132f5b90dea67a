"""HTTP out: the provider's API."""

from mospay_mtnmomo.clients.mtn import Provider

__all__ = ["Provider"]
