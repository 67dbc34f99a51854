"""The published schema of the plan file accepts what the reader of the plan file accepts."""

import json
from typing import Any

from hypothesis import given, settings
from jsonschema import Draft202012Validator
from support.plan_strategies import FALLBACK, plans, read

from tallygate.plans.codec import plan_to_document
from tallygate.plans.schema import plan_file_schema

VALIDATOR = Draft202012Validator(plan_file_schema())


@given(plans())
@settings(deadline=None)
def test_every_right_plan_is_valid_in_the_editor_too(written: dict[str, Any]) -> None:
    """An editor marks nothing that `plans validate` takes: neither what was written, nor what is printed."""
    for plan in (written, plan_to_document(read(written))):
        document = json.loads(json.dumps({"plans": [plan, FALLBACK]}))
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []
