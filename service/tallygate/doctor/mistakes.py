"""Every mistake doctor knows: its name, how bad it is, and what comes of it.

Pure. The one table: a name is the heading in docs/doctor.md and the word that an `accepts` comment takes.
"""

from tallygate.doctor.finding import Mistake, Severity

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

# Who is asked, and of what.
NOTHING_ASKS = Mistake("nothing-asks", _ERROR, "Requests pass, and nothing is checked or counted.")
NOT_GRPC = Mistake("not-grpc", _ERROR, "Tallygate answers gRPC only: every check fails.")
NOT_HTTP2 = Mistake("not-http2", _ERROR, "gRPC needs HTTP/2: every check fails.")
GOOGLE_GRPC = Mistake("google-grpc", _WARNING, "A check costs Envoy two to three times the CPU.")
SHADOW_MODE = Mistake("shadow-mode", _WARNING, "Requests are counted, and none is refused.")
NOT_EVERY_REQUEST = Mistake("not-every-request", _WARNING, "Part of the requests is neither checked nor counted.")
REQUEST_BODY = Mistake(
    "request-body", _WARNING, "Bodies are held back and sent to Tallygate, which does not read them."
)
POLICY_WITHOUT_RULES = Mistake("policy-without-rules", _ERROR, "The policy matches no request: nothing is checked.")
UNKNOWN_PROVIDER = Mistake("unknown-provider", _ERROR, "Istio refuses every request the policy matches.")

# While Tallygate does not answer.
FAILURE_MODE_ALLOW = Mistake(
    "failure-mode-allow", _ERROR, "While Tallygate does not answer, every request passes, whoever sends it."
)
TIMEOUT_MISSING = Mistake(
    "timeout-missing", _ERROR, "A request waits for a hanging check as long as the default says: 600 s in Istio."
)
TIMEOUT_TOO_LONG = Mistake("timeout-too-long", _ERROR, "A hanging check holds its request, and its caller, so long.")
STATUS_ON_ERROR = Mistake(
    "status-on-error", _ERROR, "An outage reads as a refusal: callers give up, and nobody who counts 5xx sees it."
)
RETRY_TOO_LATE = Mistake("retry-too-late", _ERROR, "The timeout ends the check before it is asked again.")
RETRY_CUT_SHORT = Mistake("retry-cut-short", _WARNING, "Each try is given up at max_interval, before the timeout.")
RETRY_IGNORED = Mistake("retry-ignored", _WARNING, "Envoy does not read it: no check is asked again.")
RETRY_MISSING = Mistake("retry-missing", _WARNING, "A check is lost with each worker that stops or dies.")
RETRY_SAME_ENDPOINT = Mistake(
    "retry-same-endpoint", _WARNING, "A check may be asked again of the worker that dropped it."
)
RETRIES_BOUNDED = Mistake("retries-bounded", _WARNING, "Retries fail when a worker goes, for many are needed at once.")

# Who the caller is, and what the upstream is told.
IDENTITY_SPOOFABLE = Mistake(
    "identity-spoofable", _ERROR, "A caller's own x-tallygate-* headers reach an upstream that trusts the prefix."
)
IDENTITY_UNDERSCORES = Mistake(
    "identity-underscores", _WARNING, "x_tallygate_customer arrives, and many servers read it as x-tallygate-customer."
)
IDENTITY_REMOVED = Mistake("identity-removed", _ERROR, "It runs after the check: the upstream never sees who calls.")
IDENTITY_BLOCKED = Mistake(
    "identity-blocked",
    _ERROR,
    "Tallygate cannot set x-tallygate-*: the upstream reads what the caller wrote, or nothing.",
)
CREDENTIAL_KEPT = Mistake("credential-kept", _ERROR, "Tokens reach the upstream, its logs, and whom it calls.")
CREDENTIAL_WITHHELD = Mistake("credential-withheld", _ERROR, "Tallygate sees no token: every request is a 401.")
CONTENT_TYPE_WITHHELD = Mistake(
    "content-type-withheld",
    _WARNING,
    "gRPC callers are refused in HTTP, which their clients read as a lost connection.",
)
FAILURE_MODE_HEADER = Mistake(
    "failure-mode-header", _WARNING, "A caller can tell the upstream that the check has failed and was let pass."
)
CLIENT_ADDRESS = Mistake("client-address-spoofable", _ERROR, "A caller chooses the address that a token is bound to.")
ROUTE_BY_CLAIM = Mistake("route-by-claim", _WARNING, "The route is chosen by what the caller wrote, before the check.")
INTERNAL_REDIRECT = Mistake(
    "internal-redirect", _WARNING, "The redirected request is checked again, without the credential: 401."
)

# What a path is.
PATH_NORMALISATION = Mistake(
    "path-normalisation",
    _ERROR,
    "/open/../v1/things takes the route of /open; other such paths are refused by Tallygate.",
)
PATH_SLASHES = Mistake("path-slashes", _WARNING, "Callers who write //v1 or %2F are refused by Tallygate.")

# How Envoy reaches Tallygate.
ONE_CONNECTION = Mistake("one-connection", _ERROR, "One worker gets every check, and the others have nothing to do.")
LEAST_REQUEST = Mistake(
    "least-request", _WARNING, "A worker that has died has the fewest requests: it is asked the most."
)
NO_HEALTH_CHECK = Mistake("no-health-check", _WARNING, "A worker that is stopping or cannot decide is still asked.")

# What is written down.
CREDENTIAL_LOGGED = Mistake("credential-logged", _ERROR, "Whoever reads the log can use the tokens in it.")
QUERY_LOGGED = Mistake("query-logged", _WARNING, "A token that a caller put into the query is in the log.")

MISTAKES = {one.name: one for one in tuple(globals().values()) if isinstance(one, Mistake)}
