"""Contracts, money, ids and the chassis that every MosPay service stands on."""
