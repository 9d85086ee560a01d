"""Errors as `application/problem+json` (RFC 9457). They carry no traceback and no internal detail."""

from chat_broker_kit.http.problems import PROBLEM_JSON, problem_document
from chat_broker_server.errors import Changed, ChatError, MethodNotAllowed, NotAuthenticated
from chat_broker_server.rest.request import Response

PROBLEM = ("content-type", PROBLEM_JSON)


def problem(error: ChatError, *, path: str, request_id: str) -> Response:
    rev = {"rev": error.rev} if isinstance(error, Changed) else {}
    body = problem_document(
        error.status,
        error.code,
        error.message,
        request_id=request_id,
        instance=path,
        more={"errors": error.errors, **rev},
    )
    headers = [PROBLEM]
    if isinstance(error, NotAuthenticated):
        headers.append(("www-authenticate", _challenge(error.code)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", error.allow))
    retry_after = error.retry_after
    if retry_after is None and error.status in {429, 503}:
        retry_after = 1
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    return Response(error.status, body, tuple(headers))


def _challenge(code: str) -> str:
    """RFC 6750, section 3: `error` is only sent when the request carried a token."""
    if code in {"authentication_required", "api_key_invalid"}:
        return 'Bearer realm="chat"'
    return 'Bearer realm="chat", error="invalid_token"'
