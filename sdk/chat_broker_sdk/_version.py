"""The version of the SDK, read by its build and sent as its user agent."""

__version__ = "0.1.0"
