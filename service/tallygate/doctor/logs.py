"""Mistakes about what access logs write down: credentials, and queries that may hold one.

Pure. Looks into every access log of the file, whatever its format.
"""

import re
from collections.abc import Iterator

from tallygate.doctor import mistakes
from tallygate.doctor.finding import Finding
from tallygate.doctor.names import CREDENTIALS
from tallygate.doctor.place import Place
from tallygate.doctor.scene import Scene, is_of_type

_SECRETS = {*CREDENTIALS, "cookie", "dpop", "proxy-authorization"}
_HEADER = re.compile(r"%(?:REQ|REQUEST_HEADER)\(([^)]*)\)")
_QUERY = re.compile(r"%(?:REQ\([^)]*:PATH[^)]*\)|PATH\((?!NQ)[^)]*\)|QUERY(?:_PARAMS?|_STRING)?\b)")
# Envoy's, then Istio's and Envoy Gateway's.
_LOGS = ("access_log", "accessLogFormat", "envoyFileAccessLog", "envoyOtelAls", "envoyHttpAls")
_WITH_DEFAULT_FORMAT = ("FileAccessLog", "StdoutAccessLog", "StderrAccessLog")
_FORMATS = ("log_format", "format", "json_format", "typed_json_format")
_MEND_PATH = 'path: "%PATH(NQ:ORIG_OR_PATH)%"'
_MEND_FORMAT = """\
log_format:
  json_format:
    method: "%REQ(:METHOD)%"
    path: "%PATH(NQ:ORIG_OR_PATH)%"
    status: "%RESPONSE_CODE%\""""


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found; a log that stands in the file twice, by an alias, is told once."""
    seen: set[int] = set()
    for place in scene.everything:
        logs = (place.at(field) for field in _LOGS)
        for inner in (one for log in logs if log is not None for one in log.walk()):
            if id(inner) not in seen:
                seen.add(id(inner))
                yield from _logged(inner)


def _logged(place: Place) -> Iterator[Finding]:
    for name in place.items_at("additional_request_headers_to_log"):
        if name.text().lower() in _SECRETS:
            problem = f"additional_request_headers_to_log has {name.text()}"
            mend = f"# remove {name.text()} from additional_request_headers_to_log"
            yield Finding(mistakes.CREDENTIAL_LOGGED, name.line, problem, mend)
    if any(is_of_type(place, kind) for kind in _WITH_DEFAULT_FORMAT) and not any(map(place.at, _FORMATS)):
        problem = "the access log has Envoy's default format, which writes the query"
        yield Finding(mistakes.QUERY_LOGGED, place.line, problem, _MEND_FORMAT)
    format_text = place.text()
    for names in _HEADER.findall(format_text):
        secrets = {name.lower() for name in re.split(r"[?:]", names)} & _SECRETS
        if secrets:
            problem = f"the access log writes {' and '.join(sorted(secrets))}"
            yield Finding(mistakes.CREDENTIAL_LOGGED, place.line, problem, f"# remove %REQ({names})% from the format")
    if _QUERY.search(format_text):
        yield Finding(mistakes.QUERY_LOGGED, place.line, "the access log writes the query", _MEND_PATH)
