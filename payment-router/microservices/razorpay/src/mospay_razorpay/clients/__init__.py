"""HTTP out: the provider's API."""

from mospay_razorpay.clients.razorpay import Provider

__all__ = ["Provider"]
