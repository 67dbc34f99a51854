"""Shapes of answers that are a record and a little more; only the OpenAPI document reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tallygate.admin.records import Json, PlanVersion, Token


@dataclass(frozen=True, slots=True)
class IssuedTokenView(Token):
    """A token with its secret in `token`, shown this once."""

    token: str


@dataclass(frozen=True, slots=True)
class PlanVersionView(PlanVersion):
    """A plan version; its `id` is `pro@3`."""

    id: str


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A feature, and what the newest version of each plan that has it grants."""

    id: str
    plans: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RoutesView:
    """The route table in force: its rules in the order they are tried, and its meters, as in a plan file."""

    version: int
    items: list[Json]
    meters: Mapping[str, Json]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a decision: `passed`, `refused` or `not reached`."""

    name: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class LimitView:
    """Where one limit stands."""

    name: str
    kind: str
    amount: int
    remaining: int
    outcome: str
    reset_s: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, step by step, for which nothing was consumed."""

    decision: Literal["allow", "deny"]
    reason: str
    plan: str | None
    route: str | None
    steps: list[StepView]
    limits: list[LimitView]


@dataclass(frozen=True, slots=True)
class LeakLabel:
    """What a reported secret is, as GitHub's partner programme wants to hear it: never the secret itself."""

    token_hash: str
    token_type: str
    label: Literal["true_positive", "false_positive"]


@dataclass(frozen=True, slots=True)
class LeakPattern:
    """The regular expression every token matches."""

    pattern: str
