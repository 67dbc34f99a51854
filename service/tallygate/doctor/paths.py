"""Mistakes about what a path is, between Envoy, Tallygate and the upstream.

Pure. Envoy leaves paths as they come unless told otherwise; Istio and Envoy Gateway normalise them unless told not to.
"""

from collections.abc import Iterator

from tallygate.doctor import mistakes
from tallygate.doctor.availability import nested
from tallygate.doctor.finding import Finding
from tallygate.doctor.place import Place
from tallygate.doctor.scene import ENVOY, Scene

_DECIDED = {"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"}
_MEND = "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: REJECT_REQUEST"


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found."""
    asking = {id(asker.manager) for asker in scene.of(ENVOY)}
    for manager in scene.managers:
        if id(manager) in asking and not scene.is_partial(manager):
            yield from _manager(manager)
    for place in scene.everything:
        yield from _mesh(place)
    for policy in scene.resources.get("ClientTrafficPolicy", ()):
        yield from _gateway(policy)


def _manager(manager: Place) -> Iterator[Finding]:
    if not manager.is_true("normalize_path"):
        problem = "normalize_path is off, as it is unless set"
        yield Finding(mistakes.PATH_NORMALISATION, manager.line_of("normalize_path"), problem, _MEND)
    if not manager.is_true("merge_slashes"):
        problem = "merge_slashes is off, as it is unless set"
        yield Finding(mistakes.PATH_SLASHES, manager.line_of("merge_slashes"), problem, _MEND)
    field = "path_with_escaped_slashes_action"
    if manager.text(field) not in _DECIDED:
        problem = f"{field} leaves %2F as it is"
        yield Finding(mistakes.PATH_SLASHES, manager.line_of(field), problem, _MEND)


def _mesh(place: Place) -> Iterator[Finding]:
    names = ("pathNormalization", "normalization")
    mend = nested(names, "MERGE_SLASHES")
    if place.text(*names) == "NONE":
        problem = "pathNormalization is NONE"
        yield Finding(mistakes.PATH_NORMALISATION, place.line_of(*names), problem, mend)
    elif place.text(*names) in {"BASE", "DEFAULT"}:
        problem = f"pathNormalization is {place.text(*names)}, which leaves // as it is"
        yield Finding(mistakes.PATH_SLASHES, place.line_of(*names), problem, mend)


def _gateway(policy: Place) -> Iterator[Finding]:
    mend = "path:\n  escapedSlashesAction: RejectRequest\n  disableMergeSlashes: false"
    slashes = ("spec", "path", "disableMergeSlashes")
    if policy.is_true(*slashes):
        yield Finding(mistakes.PATH_SLASHES, policy.line_of(*slashes), "disableMergeSlashes is true", mend)
    escaped = ("spec", "path", "escapedSlashesAction")
    if policy.text(*escaped) == "KeepUnchanged":
        yield Finding(mistakes.PATH_SLASHES, policy.line_of(*escaped), "escapedSlashesAction leaves %2F as it is", mend)
