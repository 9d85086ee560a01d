"""Databases: where they are, whether they can be opened, and the connections to them."""
