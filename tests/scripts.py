"""Scripts of `runs/` as modules, for their tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

RUNS = Path(__file__).resolve().parents[1] / "runs"


def load_script(name: str) -> ModuleType:
    """`"levers"`, or `"gpu/distil"`, as a module."""
    spec = importlib.util.spec_from_file_location(f"runs_{name.replace('/', '_')}", RUNS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
