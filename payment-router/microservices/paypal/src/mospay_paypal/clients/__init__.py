"""HTTP out: the provider's API."""

from mospay_paypal.clients.paypal import Provider

__all__ = ["Provider"]
