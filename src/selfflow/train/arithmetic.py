"""What one training changed, done to another network: task arithmetic (Ilharco et al. 2023, 2212.04089).

Distilling a model teaches its weights to jump. Where the model has since learned more, the same change of its weights
teaches most of that again, without a step: a student that begins so has only the rest to learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from selfflow.modalities.text import BytePairs
from selfflow.weight_files import read_weights


class Change(NamedTuple):
    """By how much tensors of both models differ, and the tensors that only the later one has."""

    differences: dict[str, Tensor]
    gained: dict[str, Tensor]


def change(model: Path, before: Path, after: Path) -> Change:
    """What became of the model `before` in `after`.

    Args:
        model: to which it is to be added, which must be of the same words.

    Raises:
        FileNotFoundError, ValueError: for a directory that holds no model, or a damaged one; when a tensor of both has
            another shape in each; for another vocabulary, whose rows are of other words.
    """
    for other in (before, after):
        known = [BytePairs.load(d).tokenizer for d in (model, other) if (d / BytePairs.FILE).exists()]
        if len(known) == 2 and known[0].get_vocab() != known[1].get_vocab():
            raise ValueError(f"{other} has another vocabulary than {model}: what it learned is of other words")
    old, new = read_weights(before), read_weights(after)
    wrong = [name for name in old.keys() & new.keys() if old[name].shape != new[name].shape]
    if wrong:
        name = min(wrong)
        raise ValueError(
            f"{after} was not made of {before}: {name} has shape {tuple(new[name].shape)}, not {tuple(old[name].shape)}"
        )
    differences = {name: x.float() - old[name].float() for name, x in new.items() if name in old}
    return Change(differences, {name: x.float() for name, x in new.items() if name not in old})


def add(net: nn.Module, changed: Change) -> None:
    """Add the differences to the tensors of those names, and put what was gained in place of the network's own.

    What the network alone has stays as it is.

    Raises:
        ValueError: when a tensor has another shape than its change, and nothing is added; when no name is the same.
    """
    given = changed.differences | changed.gained
    own = {name: x for name, x in net.state_dict().items() if name in given}
    wrong = [name for name, x in own.items() if x.shape != given[name].shape]
    if wrong or not own:
        which = f"{wrong[0]} has shape {tuple(own[wrong[0]].shape)}" if wrong else "no tensor has the same name"
        raise ValueError(f"the change is one of another network: {which} here; give models that this one was made of")
    for name, x in own.items():
        x.copy_(given[name] if name in changed.gained else x + given[name].to(x))
