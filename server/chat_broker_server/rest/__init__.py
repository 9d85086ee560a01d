"""The REST side: plain ASGI, one table of routes, problem+json."""
