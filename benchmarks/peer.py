"""The Self-Flow of the package `rectified-flow-pytorch` (0.14), to hold ours against: optional, never a dependency.

Its requirements name torchvision, which has no build beside every torch; its Self-Flow needs none of it. So:

    pip install --no-deps rectified-flow-pytorch==0.14.0 x-transformers ema-pytorch einx torch-einops-utils \
        rotary-embedding-torch loguru frozendict

and here only its modules `fit` (the network) and `self_flow` (the objective) are imported, as they are. What is
replaced is the package's `__init__`, by an empty one: the real one imports every method of the package, and thereby
torchvision, accelerate and others that these two modules do not use.

What is equal: width, depth, heads, tokens and their size, batch, pictures, optimiser, precision, an EMA update at every
step, a representation loss on dual timesteps. What differs: its network has a GELU MLP ×4 (ours SwiGLU ×3, 1.13 times
the MLP arithmetic), depthwise convolutions in place of rotary positions, a modulation of its own in every layer
computed per token, and a teacher run to its last layer (ours to layer 0.7 of the depth, as published, and exactly so).
It takes no text, so here neither does ours. Both are called the way their documentation says.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings

from torch import Tensor

from selfflow.train.engine import Engine
from subjects import CONFIG, TrainingStep, pictures

PACKAGE = "rectified_flow_pytorch"
INSTALL = (
    "pip install --no-deps rectified-flow-pytorch==0.14.0 x-transformers ema-pytorch einx torch-einops-utils "
    "rotary-embedding-torch loguru frozendict"
)


class PeerMissing(ImportError):
    """The package, or one of those it needs, is not installed."""


def _module(name: str) -> types.ModuleType:
    if PACKAGE not in sys.modules:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise PeerMissing(f"rectified-flow-pytorch is not installed: {INSTALL}")
        package = types.ModuleType(PACKAGE)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[PACKAGE] = package
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except ImportError as error:
        raise PeerMissing(f"rectified-flow-pytorch lacks a requirement ({error}): {INSTALL}") from error


def peer_step(batch: int, engine: Engine) -> tuple[TrainingStep, int]:
    """Its training step on our pictures, and the parameters of its network.

    Raises:
        PeerMissing: with the command that installs it.
    """
    # Said once by its RMSNorm, whose weights autocast leaves in float32.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    network = CONFIG.network
    net = _module("fit").FiT(
        dim=network.width, patch_size=CONFIG.picture.patch, depth=network.depth, heads=network.heads,
        dim_head=network.width // network.heads,
    )  # fmt: skip
    # The package copies weights for its first 100 steps; from 0 it averages at once, as ours does.
    ema = {"beta": 0.999, "update_every": 1, "update_after_step": 0}
    owner = _module("self_flow").SelfFlow(net, ema_kwargs=ema)
    data = pictures(batch)

    def loss(step: int) -> Tensor:
        return owner(data)

    step = TrainingStep(loss, owner, owner.post_training_step_update, engine)
    return step, sum(p.numel() for p in net.parameters())
