"""The page that shows people a service's OpenAPI document, and makes its requests for them.

Plain files of our own, with no build step and nothing from elsewhere: packages with Swagger UI in them weigh megabytes, their
newest is years behind it, and its inline styles need a looser policy than this one. The page asks for nothing but
/v1/openapi.json, and holds no secret: whoever makes a request types the API key, which stays in the page.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.http.safety import page_headers

REFERENCE_PATH: Final = "/v1/docs"

_FILES: Final = {
    REFERENCE_PATH: ("index.html", "text/html"),
    f"{REFERENCE_PATH}/reference.css": ("reference.css", "text/css"),
    f"{REFERENCE_PATH}/reference.js": ("reference.js", "text/javascript"),
    f"{REFERENCE_PATH}/schema.js": ("schema.js", "text/javascript"),
    f"{REFERENCE_PATH}/trial.js": ("trial.js", "text/javascript"),
}

_HEADERS: Final = page_headers({"script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "data:"})


def reference_routes() -> list[Route]:
    """Return the routes of the page; /v1/docs is its address."""
    return [Route(path, _file, methods=["GET"]) for path in _FILES]


async def _file(request: Request) -> Response:
    name, media_type = _FILES[request.url.path]
    return Response(files("router").joinpath("http/reference", name).read_bytes(), media_type=media_type, headers=_HEADERS)
