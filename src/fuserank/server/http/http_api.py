"""What the HTTP port answers.

The JSON of ``/api/recommend`` is the JSON form of the gRPC messages, as protobuf defines it:
requests go through the same checks, limits and queues as those that come by gRPC.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

import grpc
from aiohttp import hdrs, web
from google.protobuf import json_format

from fuserank.server.api.local_call import CallFailed, LocalCall
from fuserank.server.bundles.bundles import VERSION_HEADER
from fuserank.server.http.sources import HttpSources
from fuserank.server.monitoring.metrics import CONTENT_TYPE
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.security.loopback import is_loopback

__all__ = ["application"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TIMEOUT_S = 10.0
_MAX_BODY_BYTES = 256 * 1024
# A reply is made into JSON on the event loop, which gRPC calls share: it stays short.
_MAX_K = 100
_SAMPLE_USERS = 50
_PAGE = {
    "": "text/html",
    "playground.css": "text/css",
    **dict.fromkeys(("playground.js", "fields.js", "filters.js", "view.js"), "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def application(sources: HttpSources, *, loopback: bool) -> web.Application:
    """Return the routes of the HTTP port.

    Args:
        sources: what is shown.
        loopback: whether only this machine is to reach it.
    """
    app = web.Application(
        middlewares=[_with_headers, _only_for(sources, loopback)], client_max_size=_MAX_BODY_BYTES
    )

    async def metrics(_: web.Request) -> web.Response:
        # It takes some milliseconds, for which calls would wait.
        quick = sources.metrics.render_on_loop()
        body = quick + await asyncio.to_thread(sources.metrics.render)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(_: web.Request) -> web.Response:
        if sources.ready():
            return web.Response(text="serving\n")
        return web.Response(text="not serving\n", status=503)

    async def info(request: web.Request) -> web.Response:
        reply, headers = await _call(
            sources.recommender.GetBundleInfo, pb.GetBundleInfoRequest(), request.headers
        )
        # Whom the bundle knows is not for everybody on a network.
        private = loopback or sources.authorised is not None
        users = list(sources.user_ids(_SAMPLE_USERS)) if private else []
        found = _plain(reply) | {"users": users, "maxK": _MAX_K}
        return web.json_response(found, headers=headers)

    async def recommend(request: web.Request) -> web.Response:
        message = await _read(request, pb.RecommendRequest())
        if message.k > _MAX_K:
            raise _refused(grpc.StatusCode.INVALID_ARGUMENT, f"k: expected at most {_MAX_K} here")
        reply, headers = await _call(sources.recommender.Recommend, message, request.headers)
        return web.json_response(_plain(reply), headers=headers)

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/livez", alive)
    app.router.add_get("/healthz", ready)
    app.router.add_get("/api/info", info)
    app.router.add_post("/api/recommend", recommend)
    for name, kind in _PAGE.items():
        app.router.add_get(f"/{name}", _file(name or "index.html", kind))
    return app


@web.middleware
async def _with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the same headers on every answer, errors included."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(_HEADERS)
        raise
    response.headers.update(_HEADERS)
    return response


def _only_for(sources: HttpSources, loopback: bool) -> Callable[..., Any]:
    """Return what keeps strangers out of the playground's calls."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            name = re.sub(r":\d*$", "", request.host).strip("[]")
            if loopback and not is_loopback(name):
                # A page elsewhere may name this machine by a domain of its own (DNS rebinding).
                raise _refused(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"Host: found {request.host[:100]!r}, expected localhost or 127.0.0.1",
                )
            authorised = sources.authorised
            if authorised and not authorised(request.headers.get(hdrs.AUTHORIZATION)):
                raise _refused(grpc.StatusCode.UNAUTHENTICATED, "a token is needed, or another one")
        return await handler(request)

    return check


def _file(name: str, kind: str) -> Handler:
    body = files("fuserank.server.http").joinpath("playground", name).read_bytes()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return send


async def _read(request: web.Request, message: pb.RecommendRequest) -> pb.RecommendRequest:
    """Fill a message from the body."""
    if request.content_type != "application/json":  # which a form of another site cannot send
        raise _refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Content-Type: found {request.content_type[:100]!r}, expected 'application/json'",
        )
    try:
        body = await request.text()
        json_format.Parse(body, message)
    except (json_format.ParseError, UnicodeDecodeError, LookupError, RecursionError) as error:
        raise _refused(
            grpc.StatusCode.INVALID_ARGUMENT, f"the body is no RecommendRequest: {error}"
        ) from error
    return message


async def _call(
    method: Callable[[Any, Any], Any], message: object, headers: Mapping[str, str]
) -> tuple[Any, dict[str, str]]:
    """Make a call of the servicer, and turn its error into an answer.

    Returns the reply, and headers that go with it.
    """
    metadata = {
        name: headers[name]
        for name in ("x-request-id", "traceparent", VERSION_HEADER)
        if name in headers
    }
    try:
        reply, trailers = await LocalCall.make(method, message, metadata, _TIMEOUT_S)
    except CallFailed as error:
        raise _refused(error.code, error.details) from error
    return reply, dict(trailers)


def _refused(code: grpc.StatusCode, message: str) -> web.HTTPException:
    """Return an answer that says why there is none, as JSON."""
    status = _HTTP_STATUS.get(code, 500)
    body = web.json_response({"code": code.name, "message": message}, status=status)
    return _Refused(status, body.text or "")


class _Refused(web.HTTPException):
    def __init__(self, status: int, text: str) -> None:
        self.status_code = status
        super().__init__(text=text, content_type="application/json")


def _plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True
    )
    return found
