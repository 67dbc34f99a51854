"""The table of refusals: complete, as the interfaces have it, and silent about what must not be told."""

import pytest

from tallygate.decision.decision import Reason
from tallygate.decision.denials import DENIALS, denials

ALLOWING = {Reason.OK, Reason.OVERAGE, Reason.SHADOW}

# gRPC code, HTTP status and challenge of every reason, as docs and clients rely on them.
PROMISED = {
    Reason.CREDENTIAL_MISSING: (16, 401, None),
    Reason.CREDENTIAL_AMBIGUOUS: (3, 400, "invalid_request"),
    Reason.TOKEN_MALFORMED: (16, 401, "invalid_token"),
    Reason.TOKEN_UNKNOWN: (16, 401, "invalid_token"),
    Reason.TOKEN_REVOKED: (16, 401, "invalid_token"),
    Reason.TOKEN_EXPIRED: (16, 401, "invalid_token"),
    Reason.TOKEN_NOT_YET_VALID: (16, 401, "invalid_token"),
    Reason.TOKEN_DISABLED: (16, 401, "invalid_token"),
    Reason.SUBSCRIPTION_SUSPENDED: (7, 403, None),
    Reason.SUBSCRIPTION_ENDED: (7, 403, None),
    Reason.CUSTOMER_SUSPENDED: (7, 403, None),
    Reason.NETWORK_DENIED: (7, 403, None),
    Reason.SCOPE_MISSING: (7, 403, "insufficient_scope"),
    Reason.FEATURE_MISSING: (7, 403, None),
    Reason.ROUTE_DENIED: (7, 403, None),
    Reason.RATE_LIMITED: (8, 429, None),
    Reason.QUOTA_EXCEEDED: (8, 429, None),
    Reason.CONCURRENCY_EXCEEDED: (8, 429, None),
    Reason.CREDITS_EXHAUSTED: (8, 402, None),
    Reason.PAYMENT_REQUIRED: (8, 402, None),
    Reason.OVERLOADED: (14, 503, None),
    Reason.DEPENDENCY_DOWN: (14, 503, None),
}


def test_every_denying_reason_has_a_row() -> None:
    """No refusal is ever without an answer, and no allowing reason has one."""
    assert set(DENIALS) == set(Reason) - ALLOWING


@pytest.mark.parametrize("reason", DENIALS)
def test_rows_are_as_promised(reason: Reason) -> None:
    """Codes, statuses and challenges are the ones that clients were promised."""
    row = DENIALS[reason]
    assert (row.grpc_code, row.http_status, row.error) == PROMISED[reason]


@pytest.mark.parametrize("reason", DENIALS)
def test_no_row_can_be_taken_for_an_allow(reason: Reason) -> None:
    """A code of 0 lets a request pass whatever else is said, so no row has it."""
    row = DENIALS[reason]
    assert row.grpc_code != 0
    assert 400 <= row.http_status <= 599
    assert row.needs_credential or row.http_status != 401


def test_a_revoked_token_reads_like_an_unknown_one() -> None:
    """Nobody learns from an answer that a token once existed."""
    assert DENIALS[Reason.TOKEN_REVOKED] is DENIALS[Reason.TOKEN_UNKNOWN]
    assert DENIALS[Reason.TOKEN_REVOKED].detail


def test_every_other_row_shows_its_own_reason() -> None:
    """The body's reason is the metric's label."""
    assert {row.reason for row in DENIALS.values()} == set(DENIALS) - {Reason.TOKEN_REVOKED}
    assert all(row.reason is reason for reason, row in DENIALS.items() if reason is not Reason.TOKEN_REVOKED)


def test_problem_types_are_registered_ones_or_ours() -> None:
    """Limits and capacity use IANA's types; everything else is found under the base URL."""
    base = "https://api.example.com/problems/"
    iana = "https://iana.org/assignments/http-problem-types#"
    assert DENIALS[Reason.RATE_LIMITED].problem_type(base) == iana + "quota-exceeded"
    assert DENIALS[Reason.QUOTA_EXCEEDED].problem_type(base) == iana + "quota-exceeded"
    assert DENIALS[Reason.OVERLOADED].problem_type(base) == iana + "temporary-reduced-capacity"
    assert DENIALS[Reason.DEPENDENCY_DOWN].problem_type(base) == iana + "temporary-reduced-capacity"
    assert DENIALS[Reason.SCOPE_MISSING].problem_type(base) == base + "scope-missing"


def test_exhausted_credits_may_answer_429() -> None:
    """The setting changes that one status and nothing else."""
    changed = denials(credits_status=429)
    assert changed[Reason.CREDITS_EXHAUSTED].http_status == 429
    assert {reason for reason in DENIALS if changed[reason] != DENIALS[reason]} == {Reason.CREDITS_EXHAUSTED}
    with pytest.raises(ValueError, match="402 or 429"):
        denials(credits_status=200)
