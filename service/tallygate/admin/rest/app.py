"""The app: every noun, the frame around them, and the three addresses anybody may read.

Owns the order of the layers: envelope, then errors as problems, then FastAPI's routing, then access.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import compile_path

from tallygate.admin.rest import (
    audit,
    corrections,
    customers,
    docs,
    explain,
    features,
    invoices,
    leaks,
    openapi,
    plans,
    references,
    routes,
    subscriptions,
    tokens,
    usage,
)
from tallygate.admin.rest.call import Backstage, operation_id, told
from tallygate.admin.rest.envelope import Envelope
from tallygate.admin.rest.familiar import FamiliarKeys
from tallygate.admin.rest.problems import Problem, problem_of_validation
from tallygate.core.errors import TallygateError

_TERMS = (plans, customers, references, subscriptions, tokens, features, routes)
_NOUNS = (*_TERMS, usage, corrections, invoices, audit, explain, leaks)
_READ = {"GET", "HEAD"}
Handler = Callable[[Request, Exception], Awaitable[Response]]


def rest_app(backstage: Backstage, version: str) -> FastAPI:
    """Return the app over what stands backstage."""
    app = FastAPI(
        title="Tallygate",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        separate_input_output_schemas=False,
    )
    app.state.backstage = backstage
    app.state.familiar = FamiliarKeys(backstage.clock.monotonic)
    for noun in _NOUNS:
        app.include_router(noun.router, prefix="/v1")
    _add_pages(app)
    for kind, problem_of in _PROBLEMS.items():
        app.add_exception_handler(kind, _telling(problem_of, backstage.problem_base_url))
    app.add_middleware(Envelope, clock=backstage.clock, problem_base_url=backstage.problem_base_url)
    return app


def _add_pages(app: FastAPI) -> None:
    document = app.state.document = openapi.document(app)
    page = docs.page(document)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def described(_request: Request) -> Response:
        return JSONResponse(document)

    async def documented(_request: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    app.add_route("/healthz", healthz)
    app.add_route("/openapi.json", described)
    app.add_route("/docs", documented)


def _telling(problem_of: Callable[[Request, Exception], Problem], base_url: str) -> Handler:
    async def tell(request: Request, error: Exception) -> Response:
        return problem_of(request, error).response(base_url, request.state.request_id)

    return tell


def _of_validation(request: Request, error: Exception) -> Problem:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    problem = problem_of_validation(error.errors())
    if problem.status == HTTPStatus.NOT_FOUND and request.scope["path"] in request.app.state.document["paths"]:
        # Another method's address, such as /v1/tokens/revoke, was read as one with a parameter.
        return _wrong_method(_methods(request, request.scope["path"]))
    return problem


def _of_error(request: Request, error: Exception) -> Problem:
    assert isinstance(error, TallygateError)  # noqa: S101 - registered for it
    return told(request, error)


def _of_problem(_request: Request, error: Exception) -> Problem:
    assert isinstance(error, Problem)  # noqa: S101 - registered for it
    return error


def _of_http(request: Request, error: Exception) -> Problem:
    """Return the problem of a request that no handler saw."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return Problem(error.status_code, "Nothing has this address.", slug="not-found")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return _wrong_method(_methods(request))
        case HTTPStatus.BAD_REQUEST:
            return Problem(error.status_code, "The body cannot be read.", slug="malformed")
    return Problem(error.status_code, str(error.detail), headers=error.headers)


def _wrong_method(allowed: set[str]) -> Problem:
    text = ", ".join(sorted(allowed))
    return Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"Allowed here: {text}.", headers={"Allow": text})


def _methods(request: Request, template: str | None = None) -> set[str]:
    """Return the methods of an address, or of one template: of all operations, where the router knows the first."""
    paths = request.app.state.document["paths"]
    matching = [path for path in paths if compile_path(path)[0].match(request.scope["path"])]
    exact = template or next((path for path in matching if path == request.scope["path"]), None)
    return {method.upper() for path in ([exact] if exact else matching) for method in paths[path]} or _READ


_PROBLEMS: dict[type[Exception], Callable[[Request, Exception], Problem]] = {
    RequestValidationError: _of_validation,
    TallygateError: _of_error,
    Problem: _of_problem,
    HTTPException: _of_http,
}
