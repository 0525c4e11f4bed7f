"""Imports run pipeline -> transforms -> models and never back; Beam stays at the edge."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "models": {"models"},
    "transforms": {"models", "transforms"},
    "pipeline": {"models", "transforms", "pipeline"},
}
FILES = [
    path.relative_to(ROOT) for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))
]


def imported(path):
    """All modules that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which hides its layer"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def top_levels(path):
    return {module.split(".")[0] for module in imported(path)}


def test_all_three_packages_are_looked_at():
    assert {path.parts[0] for path in FILES} == set(ALLOWED)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_never_run_back(path):
    ours = top_levels(path) & set(ALLOWED)
    assert ours <= ALLOWED[path.parts[0]]


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "models"], ids=str)
def test_models_know_no_beam(path):
    assert not top_levels(path) & {"apache_beam", "tfx_bsl"}


def test_plain_python_does_the_work_and_beam_only_spreads_it():
    beam = {path for path in FILES if "apache_beam" in top_levels(path)}
    assert {path.name for path in beam if path.parts[0] == "transforms"} == {
        "beam_shards.py",
        "model_handler.py",
        "storage_beam.py",
    }
    for path in beam:
        assert not top_levels(path) & {"numpy", "PIL"}, f"{path} knows Beam and does arithmetic"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_of_the_tests_or_of_this_machine_is_shipped(path):
    assert not top_levels(path) & {"tests", "pytest", "hypothesis"}
    source = (ROOT / path).read_text(encoding="utf-8")
    assert "/work/" not in source and "/home/" not in source
