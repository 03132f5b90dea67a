"""MosPay portal-api service."""
