"""What an operator sees: series of the documented names with bounded labels, probes, an access log of decisions."""

import re

from support.world import World

DOCUMENTED = {
    "tallygate_checks_total",
    "tallygate_check_duration_seconds_bucket",
    "tallygate_license_cache_total",
    "tallygate_license_staleness_seconds",
    "tallygate_limiter_duration_seconds_bucket",
    "tallygate_limiter_batch_size_bucket",
    "tallygate_units_total",
    "tallygate_dependency_up",
    "tallygate_build_info",
}
LABELS = {
    "tallygate_checks": {"decision", "reason", "plan"},
    "tallygate_license_cache": {"result"},
    "tallygate_units": {"plan", "meter", "outcome"},
    "tallygate_overage_units": {"plan", "meter"},
    "tallygate_dependency_up": {"dependency"},
    "tallygate_degraded_decisions": {"policy"},
    "tallygate_build_info": {"version"},
}


async def test_the_documented_series_are_there(world: World) -> None:
    """Dashboards find every series by the name the documentation gives it."""
    account = await world.account("few")
    await world.seen(account.secret)
    samples = await world.metrics()
    assert {name.partition("{")[0] for name in samples} >= DOCUMENTED
    assert samples['tallygate_dependency_up{dependency="redis"}'] == 1
    assert samples['tallygate_dependency_up{dependency="postgres"}'] == 1


async def test_labels_are_bounded(world: World) -> None:
    """No customer, token, path or id is ever a label: a thousand customers add no series."""
    accounts = [await world.account("few") for _ in range(3)]
    for account in accounts[:1]:
        await world.seen(account.secret, "/v1/some/very/particular/path")
    before = await world.metrics()
    for account in accounts[1:]:
        await world.seen(account.secret, f"/v1/{account.customer.id}")
    after = await world.metrics()
    assert after.keys() == before.keys()
    for name in after:
        assert not re.search(r"(cus|sub|fam|tok)_|tg_live|/v1", name)
        series, _, labels = name.partition("{")
        for known, allowed in LABELS.items():
            if series.startswith(known):
                assert set(re.findall(r'(\w+)="', labels)) <= allowed


async def test_decisions_and_units_are_counted(world: World) -> None:
    """Each request is one decision under its reason and plan; units are what the route cost, of admitted ones only."""
    account = await world.account("prepaid")
    names = {
        "ok": 'tallygate_checks_total{decision="allow",plan="prepaid",reason="ok"}',
        "refused": 'tallygate_checks_total{decision="deny",plan="prepaid",reason="credits_exhausted"}',
        "units": 'tallygate_units_total{meter="requests",outcome="allowed",plan="prepaid"}',
    }
    before = await world.metrics()
    seen = [await world.seen(account.secret, path) for path in ("/v1/bulk", "/v1/bulk", "/v1/bulk", "/v1/a", "/v1/b")]
    after = await world.metrics()
    assert seen.count("200") == 3
    counted = {key: after[name] - before.get(name, 0) for key, name in names.items()}
    assert counted == {"ok": 3, "refused": 2, "units": 7}


async def test_a_revoked_token_is_told_apart_in_the_metrics_only(world: World) -> None:
    """The caller of a revoked token reads `token_unknown`; the operator sees what it really was."""
    account = await world.account("plain")
    name = 'tallygate_checks_total{decision="deny",plan="plain",reason="token_revoked"}'
    before = (await world.metrics()).get(name, 0)
    await world.system.control.tokens.revoke(account.issued.record.id)
    await world.until("401 token_unknown", lambda: world.seen(account.secret))
    assert (await world.metrics())[name] == before + 1


async def test_the_probes_answer(world: World) -> None:
    """Alive and ready, beside the metrics."""
    base = world.system.metrics_url.removesuffix("/metrics")
    answers = [await world.http.get(f"{base}/{path}") for path in ("healthz", "readyz")]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "alive"), (200, "ready")]
