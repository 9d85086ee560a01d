"""Why a connection failed: one sentence, and a cause without traceback, from a library's exception. Pure."""

import socket
import ssl

from chat_broker_sdk._errors import NetworkError


def connect_error(error: BaseException) -> NetworkError:
    """The error for a failed connection. *error*: the library's exception."""
    os_error = find_os_error(error)
    failure = NetworkError(
        f"The Chat API could not be reached: {describe_os_error(os_error)}", code="network_error"
    )
    failure.__cause__ = os_error
    return failure


def find_os_error(error: BaseException) -> OSError | None:
    """The operating system's or TLS error in *error* or its causes; None if there is none.

    Without traceback and context, whose frames hold the request and with it the key.
    """
    os_error = None
    chain: list[BaseException | None] = [error]
    for each in chain:
        if each is None or len(chain) > 50:
            continue
        if isinstance(each, ssl.SSLError) or type(each).__module__ in {"builtins", "socket"}:
            os_error = each if isinstance(each, OSError) and each.args else os_error
        inner = each.exceptions[:1] if isinstance(each, BaseExceptionGroup) else ()
        chain += [
            getattr(each, "os_error", None),
            getattr(each, "certificate_error", None),
            each.__cause__,
            each.__context__,
            *inner,
        ]
    if not isinstance(os_error, OSError):
        return None
    bare = os_error.with_traceback(None)
    bare.__cause__ = bare.__context__ = None
    return bare


def describe_os_error(error: OSError | None) -> str:
    """The error in words, with its usual reason."""
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
