"""Weights that come with this copy of selfflow: in `weights/` of a checkout, or inside an installed package."""

from __future__ import annotations

from pathlib import Path

from selfflow.model_directory import CONFIG
from selfflow.weight_files import has_weights

DEFAULT = "micro-all"
PAINTER = "micro-emoji"  # draws emoji and nothing else
_PACKAGE = Path(__file__).resolve().parent


def places(name: str = DEFAULT) -> list[Path]:
    """Where weights of that name may lie: the checkout first, which an editable installation is of."""
    checkout = _PACKAGE.parents[1]
    inside = [checkout / "weights" / name] if (checkout / "pyproject.toml").is_file() else []
    return [*inside, _PACKAGE / "weights" / name]


def bundled_model(name: str = DEFAULT) -> Path | None:
    """The model directory of bundled weights, for `Pipeline.from_pretrained`; None when this copy has none."""
    for directory in places(name):
        if (directory / CONFIG).is_file() and has_weights(directory):
            return directory
    return None


def model_or_bundled(model: str | Path | None) -> Path:
    """The model that was asked for, a bundled one by its name too, or the default one when none was.

    Raises:
        FileNotFoundError: when none was asked for and none is bundled, saying what to do.
    """
    if model is not None:
        named = Path(model).name == str(model) and not Path(model).exists()
        return (bundled_model(str(model)) if named else None) or Path(model)
    found = bundled_model()
    if found is None:
        looked = " or ".join(str(p) for p in places())
        raise FileNotFoundError(
            f"no --model was given, and no weights come with this copy of selfflow (none in {looked}); "
            f"give --model DIR, or train one: selfflow train {DEFAULT} --out DIR"
        )
    return found
