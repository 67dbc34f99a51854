"""What a token may do now, told without consuming anything: the pipeline's own answer, over counters that only look.

Owns what is told of a token apart from any request. Does not own the decision (`decision/pipeline`). Failure:
StoreUnavailableError, LimiterUnavailableError or OverloadedError where nothing can be said.
"""

from dataclasses import dataclass

from tallygate.core.clock import Clock
from tallygate.decision.decision import Allow, CheckInput, Reason
from tallygate.decision.first_use import FirstUse
from tallygate.decision.pipeline import Pipeline
from tallygate.decision.rules import refuse_network
from tallygate.decision.situation import Situation, subject_of
from tallygate.licenses.license import License, Phase
from tallygate.limits.limiter import Acquisition, Charge, Limiter, LimitState
from tallygate.services.licensed import Tokens


@dataclass(frozen=True, slots=True)
class Question:
    """A token, and the request it would be used for; `method` and `path` both empty ask about the token as such."""

    token: str
    method: str = ""
    path: str = ""
    client_address: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a token may do now: `license` and `phase` None for one that is not known."""

    reason: str
    is_active: bool
    license: License | None = None
    phase: Phase | None = None
    states: tuple[LimitState, ...] = ()


class Introspection:
    """Answers questions about tokens."""

    def __init__(
        self, *, tokens: Tokens, pipeline: Pipeline, limiter: Limiter, first_use: FirstUse, clock: Clock
    ) -> None:
        """Take where licenses are, a `pipeline` whose limiter only looks, the counters, and the time."""
        self._tokens = tokens
        self._pipeline = pipeline
        self._limiter = limiter
        self._first_use = first_use
        self._clock = clock

    async def ask(self, question: Question) -> Standing:
        """Say what the token may do."""
        return await (self._of_request(question) if question.path else self._of_token(question))

    async def _of_request(self, question: Question) -> Standing:
        asked = CheckInput(
            question.method or "GET",
            question.path,
            {"authorization": f"Bearer {question.token}"},
            question.client_address,
        )
        decision = await self._pipeline.check(asked)
        is_active = isinstance(decision, Allow)
        return Standing(decision.reason.value, is_active, decision.license, decision.phase, decision.states)

    async def _of_token(self, question: Question) -> Standing:
        found = await self._tokens.license(question.token)
        if found is None:
            return Standing(Reason.TOKEN_UNKNOWN.value, is_active=False)
        situation = Situation.at(self._clock.now(), found, await self._first_use.of(found))
        refusal = situation.refusal
        if refusal is None and question.client_address:
            refusal = refuse_network(found, question.client_address)
        reason = Reason.OK if refusal is None else refusal.reason
        states = await self._looked_at(found, situation.phase)
        return Standing(reason.value, refusal is None, found, situation.phase, states)

    async def _looked_at(self, found: License, phase: Phase) -> tuple[LimitState, ...]:
        charges = tuple(Charge(limit, 0) for limit in phase.grant.limits if not limit.is_shadow)
        if not charges:
            return ()
        return (await self._limiter.peek(Acquisition(subject_of(found, phase), charges))).states
