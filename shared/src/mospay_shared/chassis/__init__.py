"""The chassis: what every service stands on, so that who knows one knows all."""
