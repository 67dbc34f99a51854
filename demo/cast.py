"""The cast of the demo: one persona for every way a plan answers, on all plans of `plans.yaml`.

Pure data. Answers are `status reason`, as callers see them. Ten seconds are enough for each to see theirs, where the
machine is not busy; with three minutes, panels show customers at every share of their limits.
"""

from demo.persona import Credential, Persona, Request, between, wave

_OK, _OVERAGE, _SHADOW = "200 ok", "200 overage", "200 shadow"
_TOO_FAST, _USED_UP = "429 rate_limited", "429 quota_exceeded"
_UNKNOWN = "401 token_unknown"
_REPORT = Request("/v1/reports/7")
_SAID = {"x-answer-x-usage-output-tokens": "55"}
_COMPLETION = Request("/v1/completions", "POST")
_SETTLED = Request("/v1/completions", "POST", _SAID, share=5)
_FAILED = Request("/v1/completions", "POST", {"x-answer-status": "503"})


def _answers(*answers: str) -> frozenset[str]:
    return frozenset(answers)


CAST = (
    # Who pays, and is served.
    Persona(
        "reader",
        "pro",
        sees=_answers(_OK),
        may_see=_answers(_OVERAGE, _TOO_FAST),
        customers=5,
        at_once=2,
        every_s=0.5,
        slower=6,
        shape=wave,
        asks=(Request(share=8), Request(method="POST"), _REPORT, Request("/v1/completions", "POST", _SAID)),
    ),
    Persona(
        "contract", "enterprise", sees=_answers(_OK), may_see=_answers(_OVERAGE), customers=3, every_s=0.15, slower=3
    ),
    Persona(
        "writer",
        "enterprise",
        sees=_answers(_OK, "503 ok"),
        may_see=_answers(_OVERAGE, "503 overage"),
        customers=2,
        every_s=0.4,
        slower=2,
        asks=(_SETTLED, _FAILED, Request("/v1/search")),
    ),
    Persona(
        "trial",
        "pro",
        sees=_answers(_OK),
        customers=3,
        every_s=2,
        slower=3,
        is_on_trial=True,
    ),
    Persona("overdue", "pro", sees=_answers(_OK), every_s=2.5),
    Persona(
        "hobbyist", "free@1", sees=_answers(_OK), may_see=_answers(_SHADOW, _USED_UP), customers=5, every_s=8, slower=4
    ),
    # Who comes to an end of what is included.
    Persona(
        "payg",
        "payg",
        sees=_answers(_OK, _OVERAGE),
        may_see=_answers(_TOO_FAST),
        customers=4,
        at_once=9,
        every_s=1.7,
        slower=7,
    ),
    Persona(
        "daily",
        "free@1",
        sees=_answers(_OK, _USED_UP),
        may_see=_answers(_SHADOW, _TOO_FAST),
        customers=2,
        at_once=5,
        every_s=1.0,
        slower=4,
    ),
    Persona(
        "watched", "free@1", sees=_answers(_OK, _SHADOW), may_see=_answers(_USED_UP, _TOO_FAST), at_once=3, every_s=2.5
    ),
    Persona(
        "spender",
        "prepaid",
        sees=_answers(_OK, "402 credits_exhausted"),
        customers=2,
        at_once=8,
        every_s=2.5,
        slower=4,
        asks=(_COMPLETION,),
    ),
    # Who is in a hurry.
    Persona(
        "burst",
        "pro",
        sees=_answers(_OK, _TOO_FAST),
        may_see=_answers(_OVERAGE),
        at_once=24,
        every_s=4.5,
        asks=(Request(share=12), _REPORT, Request("/v1/completions", "POST", _SAID)),
    ),
    Persona(
        "hasty", "free@1", sees=_answers(_OK, _TOO_FAST), may_see=_answers(_SHADOW, _USED_UP), at_once=9, every_s=12
    ),
    Persona(
        "crowd",
        "batch",
        sees=_answers(_OK, _SHADOW, "429 concurrency_exceeded"),
        customers=2,
        at_once=7,
        every_s=3,
        slower=2,
    ),
    Persona(
        "nightly",
        "stream",
        sees=_answers(_OK),
        may_see=_answers(_OVERAGE),
        at_once=6,
        every_s=0.125,
        shape=between(0.3, 0.6, otherwise=0.02),
    ),
    # What a plan, or a token, is not good for.
    Persona("scopeless", "free@1", sees=_answers("403 scope_missing"), every_s=3, asks=(Request(method="POST"),)),
    Persona("featureless", "payg", sees=_answers("403 feature_missing"), every_s=4, asks=(Request("/v1/search"),)),
    Persona("lost", "pro", sees=_answers("403 route_denied"), every_s=5, asks=(Request("/internal"),)),
    Persona("abroad", "payg", sees=_answers("403 network_denied"), every_s=5, networks=("198.51.100.0/24",)),
    Persona("left", "payg", sees=_answers("403 subscription_ended"), every_s=4),
    # What happens to a customer in the middle (`incidents.py`).
    Persona("leaked", "payg", sees=_answers(_OK, _UNKNOWN), may_see=_answers(_OVERAGE), every_s=1),
    Persona("unpaid", "payg", sees=_answers(_OK, "403 customer_suspended"), may_see=_answers(_OVERAGE), every_s=1.2),
    Persona("rotated", "pro", sees=_answers(_OK), every_s=1),
    # Whom nobody knows.
    Persona("nobody", "", sees=_answers("401 credential_missing"), every_s=2, credential=Credential.NONE),
    Persona("typo", "", sees=_answers("401 token_malformed"), every_s=3, credential=Credential.MALFORMED),
    Persona("undecided", "", sees=_answers("400 credential_ambiguous"), every_s=5, credential=Credential.TWO),
    Persona(
        "scanner",
        "",
        sees=_answers(_UNKNOWN),
        at_once=3,
        every_s=0.15,
        shape=between(0.5, 0.8, otherwise=0.03),
        credential=Credential.UNKNOWN,
    ),
)
