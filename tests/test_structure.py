"""The shape of the code: imports point one way, the core is light, no file holds too much."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "selfflow"

# A module imports (at module level) only from its own layer or from those before it.
LAYERS = [
    {"shapes", "worlds", "pictures"},
    {"tokens", "flow", "times", "sample", "choosing", "tasks"},
    {"nn"},
    {"modalities"},
    {"codecs"},
    {"objectives"},
    {"data"},
    {
        "train.engine",
        "train.balance",
        "train.optimizer",
        "train.checkpoint",
        "train.task",
        "train.trainer",
        "train.recorded",
        "train.deadline",
    },
    {"config"},
    {"weight_files", "bundled", "recipes", "card", "performing", "building", "model_directory", "pipeline"},
    {"runtime"},
    {"official"},
    {"evaluate"},
    {"train.history", "train.arithmetic", "train.translation", "train.encoders", "train.judged"},
    {"train.run", "train.codec", "release"},
    {"serve"},
    {"cli_tabletop", "cli_tasks", "cli_robots", "cli", "demo"},
]
MODULES = sorted(p.relative_to(SOURCE) for p in SOURCE.rglob("*.py") if p.name != "__init__.py")


def layer(module: str) -> int:
    for number, names in enumerate(LAYERS):
        if any(module == n or module.startswith(n + ".") for n in names):
            return number
    raise AssertionError(f"{module} belongs to no layer; add it to LAYERS")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    module = ".".join(path.with_suffix("").parts)
    for node in ast.parse((SOURCE / path).read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfflow."):
            other = node.module.removeprefix("selfflow.")
            names = [f"{other}.{a.name}" for a in node.names] if other == "train" else [other]
            for name in names:
                assert layer(name) <= layer(module), f"{module} imports {name}, which comes after it"


def test_no_file_holds_too_much():
    files = [p for d in ("src", "tests", "benchmarks", "runs") for p in (ROOT / d).rglob("*.py")]
    assert not {str(p): n for p in files if (n := len(p.read_text().splitlines())) > 550}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    plain = {k: v for k, v in os.environ.items() if k != "SELFFLOW_CHECK_SHAPES"}  # as a user's process is
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain)
    return set(done.stdout.split())


def test_importing_the_core_loads_torch_and_einops_only():
    core = "import selfflow, selfflow.objectives, selfflow.nn, selfflow.sample, selfflow.modalities.visual"
    heavy = {"PIL", "tokenizers", "transformers", "datasets", "huggingface_hub", "tyro", "diffusers", "jaxtyping"}
    assert not modules_after(core) & heavy
    assert {"torch", "einops"} <= modules_after(core)


def test_the_world_and_the_list_of_sources_need_no_torch():
    assert "torch" not in modules_after("import selfflow.worlds.tabletop")
    assert "torch" not in modules_after("import selfflow.data.registry")  # nor does what sources there are


def test_nothing_names_a_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() if listed.returncode == 0 else []
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".html", ""} and path.is_file():
            text = path.read_text(errors="ignore")
            assert ("/work" + "/") not in text, name
            assert ("/home" + "/") not in text, name
