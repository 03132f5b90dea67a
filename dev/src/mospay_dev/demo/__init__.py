"""The demo: seeds two merchants through the portal and sends real payments through the house."""
