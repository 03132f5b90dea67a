"""MosPay payment-router service."""
