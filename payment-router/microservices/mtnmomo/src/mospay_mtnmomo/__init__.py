"""Mobile money of MTN (MoMo Collections) as a payment microservice."""
