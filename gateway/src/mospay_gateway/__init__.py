"""MosPay gateway service."""
