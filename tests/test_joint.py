"""Several modalities generated together, tasks as which tokens are known, chains of frames, mixtures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import text_tokens
from selfflow import flow
from selfflow.data.loader import Loader
from selfflow.data.mixture import Ingredient, MixtureLoader
from selfflow.data.sample import Sample
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import FlowMatching, SelfFlow
from selfflow.objectives.base import Practice
from selfflow.tasks import TASKS, before, moments, named
from selfflow.times import Density, Draws, Times
from selfflow.tokens import Chain, Tokens

CHANNELS = {"visual": 12, "audio": 5, "action": 3}


def places(n, time=0.0):
    x = torch.rand(1, n, 4, generator=torch.Generator().manual_seed(n))
    x[..., 0] = time
    return x.expand(3, -1, -1)


def some(name, n, seed=0, time=0.0):
    data = torch.randn(3, n, CHANNELS[name], generator=torch.Generator().manual_seed(seed))
    return Tokens(data, places(n, time), name)


def clip(frames=4, each=6):
    parts = [some("visual", each, seed=f, time=f / 10) for f in range(frames)]
    data, positions = (torch.cat([getattr(p, x) for p in parts], dim=1) for x in ("data", "positions"))
    return Tokens(data, positions, "visual")


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    modalities = {name: Modality(channels=c, prediction="data") for name, c in CHANNELS.items()}
    modalities |= {"text": Modality(vocabulary=50), "state": Modality(channels=3)}
    net = Transformer(TransformerConfig(modalities, width=64, depth=3, heads=4))
    with torch.no_grad():  # at the start every block is the identity: make tokens see each other
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * 0.1)
    return net.eval()


def test_join_and_split_are_inverse():
    parts = [some("visual", 7), some("audio", 4), some("action", 2)]
    joined = Tokens.join(parts)
    assert (joined.modality, len(joined), joined.data.shape[2]) == ("visual+audio+action", 13, 12)
    for a, b in zip(parts, joined.split(), strict=True):
        assert torch.equal(a.data, b.data)
        assert torch.equal(a.positions, b.positions)
    assert Tokens.join(parts[:1]) is parts[0]


def test_take_and_put_are_inverse():
    tokens = some("visual", 6)
    keep = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    taken = tokens.take(keep)
    assert taken.mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert torch.equal(taken.data[0], tokens.data[0, [0, 2, 3]])
    assert torch.equal(taken.positions[1, 0], tokens.positions[1, 1])
    changed = tokens.put(keep, taken.data + 1).data
    torch.testing.assert_close(changed, tokens.data + keep[..., None], rtol=0, atol=1e-6)
    assert torch.equal(tokens.put(keep, taken.data).data, tokens.data)
    assert tokens.take(torch.zeros(6, dtype=torch.bool)) is None


def test_joined_modalities_see_each_other_and_no_padding(net):
    visual, audio = some("visual", 7), some("audio", 4)
    joined, t = Tokens.join([visual, audio]), torch.full((3,), 0.6)
    velocity, _ = net(joined, t, [text_tokens()])
    garbage = joined.data.clone()
    garbage[:, 7:, 5:] = 1e3  # channels that sound does not have
    with_garbage, _ = net(joined.with_data(garbage), t, [text_tokens()])
    assert torch.equal(velocity, with_garbage)
    assert velocity[:, 7:, 5:].abs().max() == 0
    alone, _ = net(visual, t, [text_tokens()])
    assert (alone - velocity[:, :7]).abs().max() > 1e-3


def test_tokens_generated_together_in_any_order_get_the_same_velocity(net):
    visual, audio, t = some("visual", 7), some("audio", 4), torch.tensor([0.2, 0.5, 0.9])
    a = Tokens.join([visual, audio])
    b = Tokens.join([audio, visual])
    one, two = (x.with_data(net(x, t)[0]).split() for x in (a, b))
    torch.testing.assert_close(one[0].data, two[1].data, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one[1].data, two[0].data, rtol=1e-4, atol=1e-5)


def test_a_chain_reads_each_frame_with_its_past_and_stays_valid(net):
    first, second, third = moments(clip(3))
    whole = net.read([Chain((first, second, third))])
    shorter = net.read([Chain((first, second))])
    for a, b in zip(whole.keys, shorter.keys, strict=True):
        assert torch.equal(a[:, :12], b)
    again = shorter + net.read([third], past=shorter)
    for a, b in zip(whole.values, again.values, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    unaware = net.read([first, second, third])
    assert (unaware.keys[2] - whole.keys[2]).abs().max() > 1e-3


def test_a_reference_that_a_sample_lacks_changes_nothing(net):
    reference = some("visual", 6)
    lacking = replace(reference, mask=torch.tensor([True, False, True])[:, None].expand(-1, 6))
    t, noisy = torch.full((3,), 0.7), some("visual", 7, seed=5)
    velocity, _ = net(noisy, t, [text_tokens(), lacking])
    assert velocity.isfinite().all()
    without, _ = net(noisy, t, [text_tokens()])
    torch.testing.assert_close(velocity[1], without[1], rtol=1e-4, atol=1e-5)
    full, _ = net(noisy, t, [text_tokens(), reference])
    torch.testing.assert_close(velocity[0], full[0], rtol=1e-4, atol=1e-5)


def test_separate_times_are_drawn_per_modality_and_the_teacher_sees_each_at_its_lowest():
    times = Times.join(
        [Times(torch.tensor([[0.4, 0.1]]), torch.tensor([[0, 1, 0]])), Times.shared(torch.tensor([0.9]))], [3, 2]
    )
    torch.testing.assert_close(times.per_token, torch.tensor([[0.4, 0.1, 0.4, 0.9, 0.9]]))
    torch.testing.assert_close(times.cleanest().per_token, torch.tensor([[0.1, 0.1, 0.1, 0.9, 0.9]]))
    net = torch.nn.Linear(1, 1)
    practice = {"audio": Practice(Density("uniform"), 0.5), "visual": Practice(Density("uniform"), 0.1)}
    objective = SelfFlow(net, 4, 1, 1, modalities=practice)
    spans = Tokens.join([some("visual", 2000), some("audio", 2000)]).spans
    apart = objective.times(3, 4000, Draws(torch.Generator().manual_seed(0)), spans, shared=False)
    assert apart.families == (2, 2)
    assert len(apart.levels[0].unique()) == 4
    shared = objective.times(3, 4000, Draws(torch.Generator().manual_seed(0)), spans)
    assert shared.levels.shape == (3, 2)
    rates = (shared.which[:, :2000].float().mean(), shared.which[:, 2000:].float().mean())
    assert abs(rates[0] - 0.1) < 0.02
    assert abs(rates[1] - 0.5) < 0.02


def test_the_loss_is_the_weighted_sum_of_each_modalitys_mean(net):
    visual, audio = some("visual", 7), some("audio", 4)
    joined, draws = Tokens.join([visual, audio]), Draws(torch.Generator().manual_seed(1))
    objective = FlowMatching(net, modalities={"audio": Practice(weight=0.25)})
    losses = objective(joined, [text_tokens()], draws=draws)
    again = Draws(torch.Generator().manual_seed(1))
    noise = again.normal(*joined.data.shape)
    t = Density().sample(3, again)
    velocity, _ = net(joined.with_data(flow.interpolate(joined.data, noise, t)), t, [text_tokens()])
    error = (velocity - (noise - joined.data)).square()
    means = error[:, :7].mean(), error[:, 7:, :5].mean()
    torch.testing.assert_close(losses.total, means[0] + 0.25 * means[1])
    torch.testing.assert_close(losses.parts["velocity_audio"], means[1])


# ---------------------------------------------------------------------------------------------------------------- tasks


def later(tokens):
    """One token a moment."""
    positions = tokens.positions.clone()
    positions[..., 0] = torch.arange(len(tokens)) / 50
    return replace(tokens, positions=positions)


def streams():
    return {
        "text": text_tokens(), "references": [some("visual", 6, seed=1), some("visual", 6, seed=2)],
        "first": some("visual", 6, seed=3), "visual": clip(), "audio": later(some("audio", 8)),
        "action": some("action", 4),
        "state": Tokens(torch.zeros(3, 1, 3), places(1), "state"),
    }  # fmt: skip


def everything_kept(task):
    keep = {}
    for entry in task.known:
        name, _, part = entry.partition(".")
        if part:
            n = len(streams()[name])
            keep[name] = before(clip(), 2) if part == "past" else torch.arange(n) % 3 == 0
    return keep


@pytest.mark.parametrize("name", TASKS)
def test_known_tokens_come_back_unchanged_and_the_rest_is_what_was_generated(name):
    task, given = named(name), streams()
    keep = everything_kept(task)
    generated, known = task.split(given, keep)
    made = task.join(given, keep, generated.with_data(generated.data + 7))
    for entry in task.generated:
        stream, _, part = entry.partition(".")
        kept = keep[stream] if part else torch.zeros(len(given[stream]), dtype=torch.bool)
        moved = made[stream].data - given[stream].data
        torch.testing.assert_close(moved, (7.0 * ~kept)[None, :, None].expand_as(moved))
        assert torch.equal(made[stream].data[:, kept], given[stream].data[:, kept])
    assert len(known) >= 1


@pytest.mark.parametrize("name", TASKS)
def test_every_task_runs_through_the_one_network_and_learns(name, net):
    task, given = named(name), streams()
    objective = SelfFlow(net, 64, 1, 2, modalities={"audio": Practice(mask_ratio=0.5)})
    generated, known = task.split(given, task.draw(given, Draws(torch.Generator().manual_seed(0))))
    losses = objective(generated, known, draws=Draws(torch.Generator().manual_seed(0)))
    losses.total.backward()
    gradient = net.embed["text"].weight.grad
    assert losses.total.isfinite()
    assert gradient.abs().sum() > 0
    net.zero_grad()


def test_what_is_kept_is_drawn_within_the_rules():
    given = streams()
    for seed in range(20):
        draws = Draws(torch.Generator().manual_seed(seed))
        past = named("imagine").draw(given, draws)["visual"]
        assert not past[-6:].any()
        some_past = named("continue").draw(given, draws)["visual"]
        assert some_past[:6].all()
        assert not some_past[-6:].any()
        hole = named("inpaint").draw(given, draws)["visual"]
        assert hole.shape == (3, 24)
        assert (~hole).any(dim=1).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: named("paint"), "unknown task 'paint'"),
        (lambda: named("dub").split({"text": text_tokens()}), "dub needs visual"),
        (lambda: named("sound").split({"text": text_tokens()}), "sound generates audio"),
        (lambda: named("inpaint").split(streams()), "say which with keep"),
        (
            lambda: named("inpaint").split(streams(), {"visual": torch.ones(24, dtype=torch.bool)}),
            "nothing to generate",
        ),
        (lambda: Tokens.join([some("visual", 2), text_tokens()]), "join needs values"),
        (lambda: Ingredient.parse("emoji"), "SOURCE:TASK"),
        (lambda: Ingredient.parse("emoji:picture:0"), "SOURCE:TASK"),
        (lambda: Ingredient.parse("emoji:paint:1"), "unknown task"),
        (lambda: MixtureLoader([], [], 4, 0), "0 sources"),
    ],
)
def test_what_cannot_be_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -------------------------------------------------------------------------------------------------------------- mixture


class Numbered:
    def __init__(self, name, count=9):
        self.name, self.count = name, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return Sample(f"{self.name}/{i}", np.full((2, 2, 3), i, np.uint8), "")


def mixture():
    loaders = [Loader(Numbered(n), 2, seed=i, task=t) for i, (n, t) in enumerate((("a", "picture"), ("b", "edit")))]
    return MixtureLoader(loaders, [3.0, 1.0], batch_size=8, seed=5, parts=4)


def test_a_mixture_draws_by_weight_and_resumes_exactly():
    loader = mixture()
    seen = [next(loader) for _ in range(100)]
    tasks = [b.task for step in seen for b in step.split(4)]
    assert abs(tasks.count("picture") / len(tasks) - 0.75) < 0.06
    assert all({name[0] for name in b.ids} == {"a" if b.task == "picture" else "b"} for s in seen for b in s.batches)
    first, second = mixture(), mixture()
    for _ in range(40):
        next(first)
    second.load_state_dict(first.state_dict())
    assert [next(second).ids for _ in range(20)] == [b.ids for b in seen[40:60]]
