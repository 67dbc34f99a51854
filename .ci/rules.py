"""Print deploy/k8s/base/prometheus-rule.yaml: `python .ci/rules.py > deploy/k8s/base/prometheus-rule.yaml`.

It wraps the plain rule files beside it for the Prometheus Operator, comments included.
"""

from pathlib import Path
from textwrap import indent

RULES = Path(__file__).parents[1] / "deploy" / "k8s" / "base" / "rules"
_HEAD = """\
# The files of rules/ for the Prometheus Operator, made by .ci/rules.py; a test fails when it is stale.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tallygate
  labels: {app.kubernetes.io/name: tallygate}
spec:
  groups:
"""


def manifest() -> str:
    """Return the whole manifest."""
    return _HEAD + "\n".join(indent(_groups(path), "  ") for path in sorted(RULES.glob("*.yaml"), reverse=True))


def _groups(path: Path) -> str:
    """Return the groups of a file, without what its head says to whoever edits it."""
    return path.read_text().partition("\ngroups:\n")[2]


if __name__ == "__main__":
    print(manifest(), end="")
