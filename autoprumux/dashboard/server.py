"""The server of optuna-dashboard for one database, on this machine unless asked otherwise."""

import errno
import functools
import re
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna_dashboard import wsgi

from autoprumux.errors import UsageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from autoprumux.storage.artifacts import Store

_Environ = dict[str, Any]
_Application = Callable[[_Environ, Callable[..., Any]], Iterable[bytes]]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})

_STUDY = r"/api/studies/\d+"
_REFUSED = (
    ("POST", re.compile(r"/api/studies/?")),
    ("POST", re.compile(rf"{_STUDY}/rename/?")),
    ("DELETE", re.compile(rf"{_STUDY}/?")),
)
"""Making, renaming and deleting studies: Optuna's tables and ours would no longer fit."""


def make_dashboard(
    storage: "BaseStorage",
    artifact_store: "Store | None",
    *,
    host: str,
    port: int,
) -> WSGIServer:
    """Yield a server that is bound to its address; `serve_forever` runs it.

    Args:
        storage: What is shown.
        artifact_store: The files that are shown, if any.
        host: Name or address to listen on.
        port: Port to listen on; 0 takes a free one, see `server_port`.

    Raises:
        UsageError: If the address cannot be listened on.
    """
    application = wsgi(storage, artifact_store=artifact_store)
    guarded = _guard(application, host)
    kind = _ServerSix if ":" in host else _Server
    try:
        return make_server(host, port, guarded, server_class=kind, handler_class=_QuietHandler)
    except OverflowError as error:
        raise UsageError(f"`--port` must be in 0 to 65535, got {port}.") from error
    except OSError as error:
        raise UsageError(_cannot_listen(error, host, port)) from error


def address_of(server: WSGIServer, host: str, study_id: int | None) -> str:
    """Yield the address of the study's page, or that of the list of studies."""
    names = {every: "localhost" for every in EVERYWHERE}
    name = names.get(host, f"[{host}]" if ":" in host else host)
    page = "" if study_id is None else f"/studies/{study_id}"
    return f"http://{name}:{server.server_port}/dashboard{page}"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerSix(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the dashboard asks every few seconds."""


def _guard(application: _Application, host: str) -> _Application:
    """Refuse what would break the study, and pages of other sites that reach for this server."""
    names = LOCAL_NAMES | {host if ":" not in host else f"[{host}]"}

    def guarded(environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = re.sub(r":\d+$", "", str(environ.get("HTTP_HOST", "")))
        if host not in EVERYWHERE and name not in names:
            return _refuse(start_response, "This name is not that of the dashboard.")
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if any(method == verb and pattern.fullmatch(path) for verb, pattern in _REFUSED):
            reason = "Studies of autoprumux are not made, renamed or deleted here."
            return _refuse(start_response, reason)
        if path.startswith("/artifacts/"):
            return application(environ, functools.partial(_start_sandboxed, start_response))
        return application(environ, start_response)

    return guarded


def _start_sandboxed(
    start_response: Callable[..., Any],
    status: str,
    headers: list[tuple[str, str]],
    *rest: object,
) -> Any:
    """Serve a file, which may be a stranger's page, as one of another site than the dashboard."""
    apart = [
        ("Content-Security-Policy", "sandbox allow-scripts"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return start_response(status, [*headers, *apart], *rest)


def _refuse(start_response: Callable[..., Any], reason: str) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Type", "application/json")])
    return [f'{{"reason": "{reason}"}}'.encode()]


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use. Try another with `--port`, or 0 for a free one."
    reason = error.strerror or type(error).__name__
    return f"`--host` {host}, `--port` {port} cannot be listened on: {reason}."
