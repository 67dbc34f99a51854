"""Reading the features of a plan.

Owns which values a feature may have: those that RFC 9651 can carry to the upstream, and a roll-out.
"""

import re

from tallygate.licenses.license import Feature
from tallygate.plans.document import PlanFeature, Rollout
from tallygate.plans.fields import Field
from tallygate.plans.notation import read_percent
from tallygate.plans.problems import shown

FEATURE_KEY = re.compile(r"[a-z][a-z0-9_.*-]{0,62}")  # RFC 9651 §3.2, key of a dictionary
FEATURE_MEND = "begin with a-z, then a-z, 0-9, _, -, . and *, at most 63 characters"
MAXIMUM_FEATURES = 100
TEXT = re.compile(r"[\x20-\x7E]{0,256}")  # RFC 9651 §3.3.3, String
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")  # RFC 9651 §3.3.1
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,11})\.[0-9]{1,3}")  # RFC 9651 §3.3.2
_VALUE_MEND = 'write true, false, a number such as 20 or 0.25, or "text" of at most 256 printable ASCII characters'


def read_features(field: Field) -> dict[str, PlanFeature]:
    """Return the features that can be read, by their keys."""
    named = field.named()
    if len(named) > MAXIMUM_FEATURES:
        field.wrong(f"has {len(named)} features", f"at most {MAXIMUM_FEATURES}")
    features: dict[str, PlanFeature] = {}
    for key, item in named.items():
        if not FEATURE_KEY.fullmatch(key):
            item.wrong(f"{shown(key)} is not a feature's key", FEATURE_MEND)
        value = _read_rollout(item) if item.kind == "map" else read_value(item)
        if value is not None:
            features[key] = value
    return features


def _read_rollout(field: Field) -> Rollout | None:
    percent_field = field.record(("rollout",)).need("rollout", "write {rollout: 10}, or a value")
    percent = percent_field.read(read_percent) if percent_field else None
    return None if percent is None else Rollout(percent)


def read_value(field: Field) -> Feature | None:
    """Return a feature's value as it is written, None when it is no value; the field is told what is wrong."""
    text = field.text()
    value = None if text is None else _value(field.kind, text)
    if text is not None and value is None:
        field.wrong(f"{shown(text)} is not a feature's value", _VALUE_MEND)
    return value


def _value(kind: str, text: str) -> Feature | None:
    """Return what a feature's text means; YAML's other spellings (yes, 0x10, 1:30, a date) mean nothing."""
    if kind == "str" and TEXT.fullmatch(text):
        return text
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    if kind == "int" and _INTEGER.fullmatch(text.replace("_", "")):
        return int(text)
    if kind == "float" and _DECIMAL.fullmatch(text):
        return float(text) + 0.0  # -0.0 becomes 0.0: equal values are written alike
    return None
