"""PayPal orders as a payment microservice."""
