"""The generated messages are those of the .proto files, and the .proto files are Envoy's."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from support.envoy_oracle import MESSAGES, wire_fields

from tallygate._proto.envoy.v3 import accesslog_pb2, base_pb2, external_auth_pb2

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "service" / "tallygate" / "_proto"
PACKAGE = "tallygate.envoy.v3."
LENGTH_DELIMITED = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE}


def contents(folder: Path) -> dict[str, bytes]:
    """Return every generated file by its path."""
    files = (path for path in folder.rglob("*.py*") if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_generated_code_equals_a_fresh_generation(tmp_path: Path) -> None:
    """Nobody edits generated code, and nobody changes a .proto without running `.ci/protos`."""
    out = tmp_path / "fresh"
    subprocess.run([sys.executable, str(ROOT / ".ci" / "protos"), str(out)], check=True, timeout=60)
    assert contents(out) == contents(GENERATED)


def test_every_message_is_compared() -> None:
    """A message added to our .proto files is held against Envoy's too."""
    tops = [*base_pb2.DESCRIPTOR.message_types_by_name.values()]
    tops += external_auth_pb2.DESCRIPTOR.message_types_by_name.values()
    tops += accesslog_pb2.DESCRIPTOR.message_types_by_name.values()
    nested = [inner for top in tops for inner in top.nested_types if not inner.name.endswith("Entry")]
    assert {one.full_name.removeprefix(PACKAGE) for one in [*tops, *nested]} == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_have_envoys_numbers_and_wire_types(name: str) -> None:
    """What we trimmed out of Envoy's messages is still Envoy's on the wire, as another compiler has it."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(PACKAGE + name)
    ours = {field.name: (field.number, field.type in LENGTH_DELIMITED) for field in descriptor.fields}
    theirs = wire_fields(MESSAGES[name])
    assert ours == {field: theirs[field] for field in ours}
