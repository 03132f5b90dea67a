"""Private PostgreSQL, RabbitMQ and Redis instances on free loopback ports below one folder."""
