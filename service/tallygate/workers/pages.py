"""The operators' pages of several workers: /metrics of all together, /healthz of the supervisor, /readyz of any.

Ready means that at least one worker decides; the others are named with what they are at, and are being restarted.
With an endpoint each, Envoy's own health check leaves out a worker that is not ready.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tallygate.metrics import SupervisorMetrics, exposed, openmetrics
from tallygate.workers.supervisor import Supervisor
from tallygate.workers.totals import Totals
from tallygate.workers.worker import State, Worker

_DEADLINE_S = 2.0


def workers_app(supervisor: Supervisor, metrics: SupervisorMetrics, totals: Totals) -> Starlette:
    """Return the app; a worker that does not report within two seconds is shown as it last was."""

    async def all_metrics(request: Request) -> Response:
        await asyncio.gather(*(worker.refresh(_DEADLINE_S) for worker in supervisor.workers))
        for state in State:
            metrics.workers.labels(state).set(sum(worker.state is state for worker in supervisor.workers))
        pages = {worker.number: worker.exposition for worker in supervisor.workers}
        page, media_type = exposed(totals.of(openmetrics(metrics.registry), pages), request.headers.get("accept", ""))
        return Response(page, media_type=media_type)

    async def alive(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> Response:
        is_ready = supervisor.is_ready()
        rows = [_row(worker) for worker in supervisor.workers]
        waiting = [f"worker {worker.number}" for worker in supervisor.workers if worker.state is not State.READY]
        body = {"status": "ready" if is_ready else "waiting", "waiting_for": waiting, "workers": rows}
        return JSONResponse(body, status_code=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)

    return Starlette(routes=[Route("/metrics", all_metrics), Route("/healthz", alive), Route("/readyz", ready)])


def _row(worker: Worker) -> dict[str, Any]:
    return {
        "worker": worker.number,
        "state": worker.state,
        "endpoint": worker.endpoint,
        "pid": None if worker.process is None else worker.process.pid,
        "waiting_for": worker.waiting_for,
    }
