"""The way in: a file's text to all that is wrong with it.

Pure. Owns the order of findings, and `# doctor: accepts NAME because …`: a comment on the line of a finding, or among
those right above it, by which whoever wrote the file says that it is meant. Failure: InputError for text that is no
configuration, has nothing doctor can judge, or accepts a mistake that there is not.
"""

import re
from dataclasses import dataclass

from tallygate.core.errors import InputError
from tallygate.doctor import asking, availability, connections, identity, logs, paths
from tallygate.doctor.finding import Finding, Severity
from tallygate.doctor.mistakes import MISTAKES
from tallygate.doctor.scene import Scene, scene_of
from tallygate.doctor.source import read

_ACCEPTS = re.compile(r"#\s*doctor:(?: accepts (?P<name>[\w-]+))?(?P<why> because \S)?")
_JUDGED = {"AuthorizationPolicy", "ClientTrafficPolicy", "EnvoyProxy"}
_FAMILIES = (asking, availability, identity, paths, connections, logs)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found in a file, in the order of its lines; `accepted` is what its comments say is meant."""

    findings: tuple[Finding, ...]
    accepted: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Return whether a finding is an error."""
        return any(finding.mistake.severity is Severity.ERROR for finding in self.findings)


def examine(text: bytes, name: str, *, workers: int = 1, is_shared: bool = False) -> Diagnosis:
    """Judge the file called `name`, in front of `workers` processes, all on one endpoint if `is_shared`."""
    scene = scene_of(read(text, name), workers=workers, is_shared=is_shared)
    if not (scene.askers or scene.managers or _JUDGED & scene.resources.keys()):
        mend = "give a bootstrap or a listener of Envoy's, or resources of Istio or Envoy Gateway"
        raise InputError(name, "has nothing that could ask Tallygate", mend)
    meant = _accepted(text.decode("utf-8-sig"), name)
    found = sorted(_found(scene), key=lambda finding: (finding.line, finding.mistake.name))
    return Diagnosis(
        tuple(one for one in found if one.mistake.name not in meant.get(one.line, ())),
        tuple(one for one in found if one.mistake.name in meant.get(one.line, ())),
    )


def _found(scene: Scene) -> set[Finding]:
    """Return every finding once, though an alias has it in several places."""
    return {finding for family in _FAMILIES for finding in family.judge(scene)}


def _accepted(text: str, name: str) -> dict[int, set[str]]:
    """Return the names of accepted mistakes by line: the comment's own, and the first below it that is no comment."""
    meant: dict[int, set[str]] = {}
    above: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        said = _ACCEPTS.search(line)
        if said is not None:
            _check(said, f"{name}:{number}")
            above.add(said["name"])
        if not line.lstrip().startswith("#"):
            meant[number], above = above, set()
    return meant


def _check(said: re.Match[str], where: str) -> None:
    if said["name"] is None:
        raise InputError(where, "says nothing to doctor", "write: # doctor: accepts NAME because …")
    if said["name"] not in MISTAKES:
        raise InputError(where, f"there is no mistake named {said['name']!r}", "doctor prints the names")
    if said["why"] is None:
        raise InputError(where, "accepts a mistake without a reason", f"write: accepts {said['name']} because …")
