"""Any provider with an HTTP and JSON API, described by a file, as a payment microservice."""
