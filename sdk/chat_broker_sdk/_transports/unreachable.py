"""Why a connection could not be made: from what a library raised to a sentence, and a cause without frames. Pure."""

import socket
import ssl

from chat_broker_sdk._errors import NetworkError


def no_connection(error: BaseException) -> NetworkError:
    """The error for a server that could not be connected to, because of *error*."""
    found = os_error_of(error)
    failure = NetworkError(
        f"The Chat API could not be reached: {reason_of(found)}", code="network_error"
    )
    failure.__cause__ = found
    return failure


def os_error_of(error: BaseException) -> OSError | None:
    """What the operating system or TLS said, in *error* or in what led to it; None if neither said anything.

    Without its frames and its own context: those of libraries know the request, and with it the key.
    """
    found = None
    chain: list[BaseException | None] = [error]
    for each in chain:
        if each is None or len(chain) > 50:
            continue
        if isinstance(each, ssl.SSLError) or type(each).__module__ in {"builtins", "socket"}:
            found = each if isinstance(each, OSError) and each.args else found
        inner = each.exceptions[:1] if isinstance(each, BaseExceptionGroup) else ()
        chain += [
            getattr(each, "os_error", None),
            getattr(each, "certificate_error", None),
            each.__cause__,
            each.__context__,
            *inner,
        ]
    if not isinstance(found, OSError):
        return None
    bare = found.with_traceback(None)
    bare.__cause__ = bare.__context__ = None
    return bare


def reason_of(error: OSError | None) -> str:
    """What is wrong, and where there is one, the usual reason."""
    match error:
        case None:
            return "no connection"
        case ConnectionRefusedError():
            return "the connection was refused: nothing listens there"
        case socket.gaierror():
            return "the host is unknown"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return "there is no TLS: does the server speak http:// there?"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection broke while it was opened"
        case _:
            return error.strerror or "no connection"
