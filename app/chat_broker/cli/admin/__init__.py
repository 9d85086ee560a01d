"""The operators' commands, one file a noun."""
