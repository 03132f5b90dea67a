"""MosPay notifier service."""
