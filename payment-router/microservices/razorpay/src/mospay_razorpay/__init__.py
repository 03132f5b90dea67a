"""Razorpay orders (cards, UPI, netbanking, wallets) as a payment microservice."""
