"""Shapes named in signatures are checked in every test; torch uses one thread so that runs compare bit for bit."""

import os

os.environ.setdefault("SELFFLOW_CHECK_SHAPES", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Never a module whose functions get compiled (nn): decorated code and torch.compile do not mix.
install_import_hook(["selfflow.tokens", "selfflow.times", "selfflow.sample"], "beartype.beartype")

import hypothesis
import pytest
import torch

from selfflow.building import build_network
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.pipeline import Pipeline
from selfflow.tokens import Tokens, grid_positions, sequence_positions

torch.set_num_threads(1)
# A busy machine is no failure: what counts is the answer. The same examples every time, so that CI is no lottery.
hypothesis.settings.register_profile("selfflow", deadline=None, derandomize=True)
hypothesis.settings.load_profile("selfflow")


def shaken_pipeline(config, text) -> Pipeline:
    """A pipeline of a network of random weights: what is tested with it holds for any."""
    net = build_network(config, text)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return Pipeline(net, text, config)


def small_network(**options: object) -> Transformer:
    """A network small enough for any test, with every weight random: zeros would make identities hold for nothing."""
    modalities = {
        "text": Modality(vocabulary=50),
        "visual": Modality(channels=12, prediction=options.pop("prediction", "velocity")),
    }
    defaults = {"width": 64, "depth": 4, "heads": 2, "mlp_ratio": 2.0}
    net = Transformer(TransformerConfig(modalities, **(defaults | options)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.05 if p.ndim < 2 else p.shape[-1] ** -0.5))
    return net


def text_tokens(b: int = 3, n: int = 5, padded: bool = False, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    mask = None
    if padded:
        mask = torch.ones(b, n, dtype=torch.bool)
        mask[0, 3:] = False
    ids = torch.randint(0, 50, (b, n), generator=generator)
    return Tokens(ids, sequence_positions(n).expand(b, -1, -1), "text", mask)


def picture_tokens(b: int = 3, rows: int = 3, columns: int = 4, seed: int = 1) -> Tokens:
    data = torch.randn(b, rows * columns, 12, generator=torch.Generator().manual_seed(seed))
    return Tokens(data, grid_positions(rows, columns).expand(b, -1, -1), "visual")


@pytest.fixture
def network() -> Transformer:
    return small_network().eval()
