"""URLs for logs: without user name, password and parameters."""

from urllib.parse import urlsplit

from chat_broker_kit.urls.database import POSTGRES, SQLITE, shown_url


def location(url: str) -> str:
    """Scheme, host, port and path of *url*; the file of a SQLite URL."""
    if url.startswith((SQLITE, *POSTGRES)):
        return shown_url(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(hidden)"
    if "@" in parts.path + parts.query + parts.fragment:
        return f"{parts.scheme}://(hidden)"  # part of a password with a reserved character
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
