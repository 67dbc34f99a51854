"""The shape of the code: what keeps it readable is held by a test, not by habit."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAXIMUM_MODULE_LINES = 400
MAXIMUM_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _modules() -> list[Path]:
    """Return every Python file git knows or could know, generated ones left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in names if "/_proto/" not in name and (ROOT / name).exists()]


MODULES = _modules()


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    """A reader can take in any module at one sitting, and learns from its first lines what it owns."""
    text = path.read_text()
    assert text.count("\n") <= MAXIMUM_MODULE_LINES
    assert ast.get_docstring(ast.parse(text)), "the module has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    """No function is longer than a screen."""
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in _functions(path)}
    assert {name: lines for name, lines in lengths.items() if lines > MAXIMUM_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name.startswith("test_")], ids=_name)
def test_every_test_names_its_promise(path: Path) -> None:
    """Whoever breaks a test reads in its docstring what they broke."""
    tests = [node for node in _functions(path) if node.name.startswith("test_")]
    assert [node.name for node in tests if not ast.get_docstring(node)] == []


def test_the_source_has_modules() -> None:
    """The tests above look at something."""
    assert len(MODULES) > 50


def test_drivers_stay_in_files_named_for_them() -> None:
    """A driver is met only where the file's name says so, so that it can be replaced in one place."""
    allowed = {
        "asyncpg": {"postgres.py", "listener.py", "migrate.py"},
        "redis": {"redis.py", "redis_topology.py"},
        "hiredis": {"redis_pipeline.py"},
        "grpc": {"grpcio.py", "grpcio_services.py", "health.py"},
        "h2corn": {"h2corn.py"},
        "httpx": {"http.py", "system.py", "smoke.py"},
        "pyarrow": {"parquet.py"},
    }
    found = []
    for path in (path for path in MODULES if "service" in path.parts and "devservers" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [
                f"{_name(path)} imports {driver}"
                for driver, files in allowed.items()
                if path.name not in files and any(name.split(".")[0] == driver for name in names)
            ]
    assert found == []


def test_the_readme_is_short() -> None:
    """The README is read to its end."""
    assert (ROOT / "README.md").read_text().count("\n") <= 200
