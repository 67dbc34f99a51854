"""`/v1/routes`: what each part of the API costs and asks for. The first rule that matches decides."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.operations import Operations
from tallygate.admin.records import AppliedCatalogue, Json
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.plans import read_file
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import RoutesView
from tallygate.admin.rest.values import Body, JsonObject

router = APIRouter(prefix="/routes", tags=["routes"])

Rule = Annotated[JsonObject, Field(json_schema_extra={"x-schema": "plan-file.route"})]


class NewRoutes(Body):
    """A whole table of rules, as in a plan file, with the meters it counts by and their policies."""

    routes: Annotated[list[Rule], Field(min_length=1)]
    meters: Annotated[JsonObject | None, Field(json_schema_extra={"x-schema": "plan-file.meters"})] = None


@router.get("", response_model=RoutesView)
async def show(call: Viewer) -> Response:
    """Show the table in force, its rules in order, and the meters it counts by."""
    version, table = await call.operations.plans.routes()
    shown = {"version": version, "items": table["routes"], "meters": table["meters"], "next_cursor": None}
    return Answer(shown).response()


@router.post("", response_model=AppliedCatalogue)
async def replace(call: Admin, body: NewRoutes) -> Response:
    """Put a table in force in place of the one before, for every plan and at once."""
    return await call.once(_replace(call.operations, body.model_dump(exclude_none=True)))


async def _replace(operations: Operations, file: Json) -> AppliedCatalogue:
    return await operations.plans.apply(read_file(file))
