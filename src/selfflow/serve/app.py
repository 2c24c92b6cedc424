"""The application: everything put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from selfflow.serve import docs_page, openai_images, openai_media, studio_api
from selfflow.serve.limits import Refused
from selfflow.serve.live import studio_socket
from selfflow.serve.security import Guard, Policy, error_body, refusal
from selfflow.serve.state import Server
from selfflow.serve.worlds import world_socket

STUDIO = Path(__file__).parent / "studio"


def build(server: Server, policy: Policy | None = None) -> FastAPI:
    """The application of a server; the model's thread runs from its start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.worker.start()
        try:
            yield
        finally:
            server.worker.close()
            server.store.close()

    app = FastAPI(
        title="selfflow", version=metadata.version("selfflow"), lifespan=lifespan, docs_url=None, redoc_url=None,
        description="One model for pictures, edits, clips, sounds and actions. WebSockets: see docs/serve.md.",
    )  # fmt: skip
    app.state.server = server
    _errors(app)
    app.include_router(studio_api.routes(server, server.facts()))

    app.include_router(openai_images.routes(server))
    app.include_router(openai_media.routes(server))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page.page(app.openapi()))

    @app.get("/docs.css", include_in_schema=False)
    def docs_style() -> Response:
        return Response(docs_page.STYLE, media_type="text/css")

    @app.get("/healthz", tags=["server"])
    def healthz() -> dict[str, Any]:
        """Whether the server and the model's thread are alive."""
        alive = server.worker.thread.is_alive()
        return {"status": "ok" if alive else "closing", "model": server.model.name}

    @app.get("/metrics", tags=["server"], response_class=Response)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.websocket("/ws/studio")
    async def studio(socket: WebSocket) -> None:
        await studio_socket(socket, server)

    @app.websocket("/ws/world")
    async def world(socket: WebSocket) -> None:
        await world_socket(socket, server)

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        if not (STUDIO / "index.html").is_file():
            raise Refused("not_found", "this installation has no studio; the API is at /docs")
        return FileResponse(STUDIO / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/studio", _Fresh(directory=STUDIO, check_dir=False), name="studio")
    app.add_middleware(Guard, server=server, policy=policy or Policy())
    return app


class _Fresh(StaticFiles):
    """Files that browsers ask for again each time, and get again only when they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _errors(app: FastAPI) -> None:
    """Every error in one shape, none with a stack trace."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        app.state.server.metrics.refused.labels(error.code).inc()
        headers = {"retry-after": "1"} if error.code in ("rate_limited", "busy") else None
        return JSONResponse(error_body(error), error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return JSONResponse(error_body(Refused("bad_request", message, where or None)), 400)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        body = error_body(refusal(error))
        return JSONResponse(body, error.status_code, getattr(error, "headers", None))
