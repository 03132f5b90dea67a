"""MosPay reporter service."""
