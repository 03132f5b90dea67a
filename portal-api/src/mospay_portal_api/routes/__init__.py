"""HTTP into portal-api, by noun."""
