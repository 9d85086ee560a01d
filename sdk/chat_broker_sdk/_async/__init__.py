"""The asynchronous client. People edit here; `scripts/unasync.py` writes `_sync` from it."""
