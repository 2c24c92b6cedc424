"""Recorded micro-steps: what is played is what would have been launched, whatever was recorded before."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import picture_tokens, small_network, text_tokens
from selfflow.config import TrainConfig
from selfflow.objectives import Alignment, FlowMap, FlowMatching, Progressive, Repa, SelfFlow, Standardise
from selfflow.objectives.flow_map import Guided
from selfflow.times import Draws
from selfflow.tokens import Tokens, padded
from selfflow.train import run
from selfflow.train.checkpoint import latest
from selfflow.train.recorded import Recorded
from selfflow.train.trainer import Trainer
from test_train_mixture import losses, tiny

MIXTURE = (
    "tabletop-still:picture", "tabletop-reference:edit", "tabletop-still:inpaint", "tabletop-clip:clip+sound",
    "tabletop-clip:continue",
)  # fmt: skip


class NoLook(TorchDispatchMode):
    """Refuses what a GPU cannot record: looks at values, and shapes that depend on them."""

    looks = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket.__name__ not in self.looks, f"{function} cannot be recorded"
        return function(*args, **(kwargs or {}))


class Tape:
    """Records as a CUDA graph does: two rehearsals, and what is played reads and writes the same tensors."""

    def __init__(self):
        self.recorded = self.played = 0

    def __call__(self, run):
        run()
        with NoLook():
            run()
        self.recorded += 1

        def play():
            self.played += 1
            run()

        return play


@pytest.fixture
def trained(tmp_path, monkeypatch):
    def train(name, record, steps=12):
        monkeypatch.setattr(run, "Trainer", lambda *a, **more: Trainer(*a[:-1], record, **more))
        config = tiny(steps=steps, mixture=MIXTURE)
        config = replace(config, network=replace(config.network, stencils=False))
        config = replace(config, train=replace(config.train, record=True, balance=True))  # the same padding for both
        run.train(config, tmp_path / name, progress=False)
        return tmp_path / name

    return train


def weights(directory):
    objective, *_ = run.load_objective(directory, latest(directory / "checkpoints"))
    return objective.state_dict()


def test_a_recorded_training_is_a_launched_one_bit_for_bit(trained):
    tape = Tape()
    launched, played = trained("launched", False), trained("played", tape)
    assert tape.recorded >= 4
    assert tape.played > 1.5 * tape.recorded
    assert losses(played) == losses(launched)
    for (name, a), b in zip(weights(launched).items(), weights(played).values(), strict=True):
        assert torch.equal(a, b), name
    kept = [json.loads(line).keys() for line in (played / "metrics.jsonl").read_text().splitlines()]
    assert kept == [json.loads(line).keys() for line in (launched / "metrics.jsonl").read_text().splitlines()]


def objective_of(net=None, **options):
    net = net or small_network(depth=2)
    return SelfFlow(net, net.config.width, 1, 2, 0.8, 0.25, **options)


def grads(objective):
    return {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}


def test_gradients_add_up_and_unused_parameters_have_none():
    launched, played = objective_of(), objective_of()
    for objective in (launched, played):  # of a modality that no batch has
        objective.net.embed["audio"] = torch.nn.Linear(3, 64)
    played.load_state_dict(launched.state_dict())
    recorded = Recorded(played, torch.enable_grad, Tape())
    batches = [(picture_tokens(seed=i), [text_tokens(n=3 + i % 2, seed=i)]) for i in range(6)]
    for step in range(3):
        recorded.begin()
        launched.zero_grad()
        for i, (data, context) in enumerate(batches):
            found = recorded(data, context, Draws.at(step, i), 0.25)
            true = launched(data, context, draws=Draws.at(step, i))
            (0.25 * true.total).backward()
            assert torch.equal(found["loss"], true.total)
            assert set(found) == {"loss", *true.parts}
        recorded.end()
        for (name, a), b in zip(grads(launched).items(), grads(played).values(), strict=True):
            torch.testing.assert_close(a, b, msg=name)
    silent = {name for name, g in grads(played).items() if g is None}
    assert silent == {name for name, g in grads(launched).items() if g is None}
    assert {"net.embed.audio.weight", "net.embed.audio.bias"} <= silent


@pytest.mark.parametrize("make", [FlowMap, partial(FlowMap, dual=True), partial(Progressive, ladder=(4, 2))])
def test_a_distillation_is_recorded_too(make):
    launched, played = (make(small_network(depth=2, target_time=True), steps=4) for _ in range(2))
    tape = Tape()
    recorded = Recorded(played, torch.enable_grad, tape)
    for step in range(4):
        recorded.begin()
        launched.zero_grad()
        for first in (0, 4, 9):  # of an odd row, too
            data, guided = picture_tokens(b=5, seed=step), Guided([text_tokens(b=5)], [[text_tokens(b=5, n=2)]], [3.0])
            found = recorded(data, guided, Draws.at(0, step, first=first, total=20), 0.5)
            true = launched(data, guided, draws=Draws.at(0, step, first=first, total=20))
            (0.5 * true.total).backward()
            for name, value in {"loss": true.total, **true.parts}.items():
                assert torch.equal(found[name], value.float()), name
        recorded.end()
        for (name, a), b in zip(grads(launched).items(), grads(played).values(), strict=True):
            torch.testing.assert_close(a, b, msg=name)
        for objective in (launched, played):
            with torch.no_grad():
                for p in objective.net.parameters():
                    p.add_(0.01)
            objective.after_step()
    assert tape.recorded == 2  # rows that begin with an anchor or a jump; of the ladder, two rungs
    if isinstance(played, Progressive):
        return
    for first in (8, 9):
        drawn = launched.draw(data, Draws.at(0, 9, first=first, total=20))[1]
        jumps, found = (drawn.targets < drawn.levels).any(dim=1), dict(FlowMap._kinds(drawn))
        assert jumps[found["jump"]].all()
        assert not jumps[found["anchor"]].any()
        assert sum(len(jumps[rows]) for rows in found.values()) == 5


@pytest.mark.parametrize("options", [{}, {"ema_warmup": True}, {"alignment": Alignment("noisier", gap_from=0.1)}])
def test_nothing_looks_at_a_value_while_it_is_recorded(options):
    tape = Tape()
    recorded = Recorded(objective_of(**options), torch.enable_grad, tape)
    for step in range(2):
        recorded.begin()
        recorded(picture_tokens(), [text_tokens(padded=True)], Draws.at(0, step), 1.0)
        recorded.end()
        recorded.objective.after_step()
    assert tape.recorded == 1


def test_a_teacher_at_rest_is_another_recording():
    objective, tape = objective_of(alignment=Alignment(steps=(0, 2))), Tape()
    recorded = Recorded(objective, torch.enable_grad, tape)
    seen = []
    for step in range(4):
        recorded.begin()
        seen += [set(recorded(picture_tokens(), [text_tokens()], Draws.at(0, step), 1.0)) for _ in range(2)]
        recorded.end()
        objective.after_step()
    assert ["loss_representation" in names for names in seen] == [True] * 4 + [False] * 4
    assert tape.recorded == 2


def test_no_more_is_recorded_than_allowed():
    tape = Tape()
    recorded = Recorded(objective_of(), torch.enable_grad, tape, most=1)
    recorded.begin()
    for n in (3, 4, 3, 4, 3, 4):
        found = recorded(picture_tokens(), [text_tokens(n=n)], Draws.at(0, n), 1.0)
        assert torch.isfinite(found["loss"])
    assert (tape.recorded, tape.played) == (1, 2)


def test_padding_has_no_weight():
    net = small_network()
    data, text = picture_tokens(), text_tokens()
    more = padded(data, 7)
    assert isinstance(more, Tokens)
    assert len(more) == len(data) + 7
    with torch.no_grad():
        alone, _ = net(data, torch.tensor([0.2, 0.5, 0.9]), [text])
        together, _ = net(more, torch.tensor([0.2, 0.5, 0.9]), [padded(text, 5)])
    torch.testing.assert_close(together[:, : len(data)], alone)
    noise = torch.randn(3, len(more), data.data.shape[-1], generator=torch.Generator().manual_seed(0))
    objective = FlowMatching(net)
    times = objective.times(3, len(more), Draws.at(0, 0))
    found = objective.losses(more, more.data, noise, times, ([padded(text, 5)],))
    true = objective.losses(data, data.data, noise[:, : len(data)], times, ([text],))
    torch.testing.assert_close(found.total, true.total)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    net = small_network(depth=2)
    whitened = Standardise(net.config.width, "whitened")
    with pytest.raises(ValueError, match=r"SelfFlow .* cannot be recorded; set"):
        Recorded(objective_of(net, target=whitened), torch.enable_grad, Tape())
    with pytest.raises(ValueError, match=r"Repa .* cannot be recorded"):
        Recorded(Repa(net, net.config.width, 1, lambda data: None, 3), torch.enable_grad, Tape())
    config = tiny(steps=1)
    with pytest.raises(ValueError, match=r"cannot record what network\.stencils look for"):
        replace(config, train=replace(config.train, record=True))
    config = replace(config, network=replace(config.network, stencils=False))
    config = replace(config, train=replace(config.train, record=True))
    with pytest.raises(ValueError, match="one process on a GPU"):
        run.train(config, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"neither train\.compile"):
        TrainConfig(record=True, compile=True)
