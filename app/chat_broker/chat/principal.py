"""Who is asking."""

from dataclasses import dataclass, field
from typing import Literal

Carrier = Literal["bearer", "cookie", "header"]


@dataclass(frozen=True, slots=True)
class Principal:
    """An app user whose credential was checked, keyed by (issuer, subject).

    *external_id* is what the chat user is called upstream; *username*, *name*, *email* and *avatar_url* are
    claims, true or not. *expires_at* is the end of the app's own credential in epoch seconds, leeway included; None if
    it has none. *carrier* says how the credential came: a browser sends a cookie by itself, and it or a proxy
    in front may have added a header, so those need more. A browser never sends a bearer token by itself.
    """

    issuer: str
    subject: str
    external_id: str
    username: str | None = None
    name: str | None = None
    email: str | None = None
    expires_at: int | None = None
    carrier: Carrier = "bearer"
    avatar_url: str | None = None
    user: str = field(init=False, repr=False, compare=False)
    """Issuer and subject as one text, for what is kept of each user: asked for several times in each request.

    Issuers are the operator's own names and hold no NUL, so no two users share one.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "user", f"{self.issuer}\0{self.subject}")
