"""Where something is, as operators may read it in a log: never with a user name, a password or a query."""

from urllib.parse import parse_qs, urlsplit


def location(url: str) -> str:
    """Scheme, hosts, ports and path of *url*; the file, if it is one of SQLite's."""
    if url.startswith("sqlite:"):
        return f"sqlite {url.removeprefix('sqlite:///')}"
    try:
        parts = urlsplit(url)
        elsewhere = parse_qs(parts.query).get("host", [""])[0]  # libpq's way to name a Unix socket
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2] or elsewhere
    return f"{parts.scheme} {host}{parts.path}"
