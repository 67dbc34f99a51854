"""What each label may hold. Each is bounded by what operators write, never by who calls. docs/metrics.md prints it."""

from collections.abc import Mapping

LABELS: Mapping[str, str] = {
    "decision": "`allow`, `deny`, or `error` for a check that failed inside Tallygate",
    "reason": "why, of a fixed list: reasons of [decisions](failure-modes.md), or what the meaning names",
    "plan": "the key of a plan (`pro`), empty where no license was found",
    "customer": "the id of a customer, `other` for all who are not named; only where switched on",
    "meter": "a meter of the plans, such as `requests`",
    "outcome": "`allowed`, or `overage` beyond a limit's amount",
    "limit": "the name of a limit of the plan",
    "result": "what it came to, of a fixed list",
    "shadow": "a version (`pro@4`) or limit (`pro@3:burst`) that is tried in shadow",
    "method": "a method of our own gRPC services",
    "code": "a gRPC status",
    "dependency": "`postgres` or `redis`",
    "policy": "what a limit's `fail` says: `open`, `closed`, `local`",
    "export": "the name of an export",
    "state": "a state, of a fixed list",
    "status": "a status of subscriptions, of a fixed list",
    "currency": "a currency of the plans, such as `USD`",
    "version": "Tallygate's",
}
