"""Batches as tokens, and used again: what they hold is what samples hold, and repetition keeps to its bounds."""

import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from selfflow.config import DataConfig
from selfflow.data.echo import Echo
from selfflow.data.encoded import Encoded, Encoding, Packed
from selfflow.data.loader import Loader
from selfflow.data.mixture import MixedBatch, MixtureLoader
from selfflow.data.registry import open_named
from selfflow.tasks import named
from selfflow.times import Draws
from selfflow.tokens import Chain, Tokens
from selfflow.train.run import train
from selfflow.train.task import Prepare, PrepareGuided
from selfflow.train.trainer import read_metrics
from test_train_mixture import losses, tiny


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    from selfflow.building import build_modalities
    from selfflow.train.run import open_text

    config = tiny()
    text = open_text(config, tmp_path_factory.mktemp("text"), lambda: ["a red ball", "two green boxes on a cup"])
    return Prepare(build_modalities(config, text), 0.5, 0.5)


def batch_of(task="edit", source="tabletop-reference", rows=6):
    return next(Loader(open_named(source, size=32, count=8), rows, seed=0, task=task))


def flat(known):
    return [link for group in known for link in (group.links if isinstance(group, Chain) else (group,))]


def same(a, b):
    return (
        torch.equal(a.data, b.data) and torch.equal(a.positions, b.positions) and torch.equal(a.full_mask, b.full_mask)
    )


@pytest.mark.parametrize(("task", "source"), [("edit", "tabletop-reference"), ("inpaint", "tabletop-still")])
@pytest.mark.parametrize("guided", [False, True])
def test_tokens_of_another_process_are_prepared_as_samples_are(prepare, task, source, guided):
    if guided:
        prepare = PrepareGuided(prepare.modalities, 0.5, 0.5, 1, 3.0, 2.0)
    batch = batch_of(task, source)
    encoded = pickle.loads(pickle.dumps(prepare.encode(batch)))
    found = [prepare(b, Draws.at(3, 4, first=0, total=6)) for b in (batch, encoded)]
    assert same(found[0][0], found[1][0])
    sides = [[known] if not guided else [known.known, *known.less] for _, known in found]
    for a, b in zip(*sides, strict=True):
        assert len(a) == len(b) > 0
        assert all(same(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def test_tokens_travel_as_the_bytes_they_were_made_of(prepare):
    batch = batch_of()
    encoded = prepare.encode(batch)
    seen = encoded.parcels["visual"]
    assert (seen.data.dtype, len(seen.positions)) == (torch.uint8, 1)
    true = prepare.modalities.streams(batch.samples, named("edit"))
    assert torch.equal(encoded.streams["visual"].data, true["visual"].data)
    assert all(same(a, b) for a, b in zip(encoded.streams["references"], true["references"], strict=True))
    arrays = [p for s in batch.samples for p in (s.picture, *s.references)]
    blanks = sum(len(encoded.parcels["references"]) - len(s.references) for s in batch.samples)
    values = sum(a.nbytes for a in arrays) + blanks * arrays[0].nbytes  # what a sample lacks travels as padding
    assert values < len(pickle.dumps(encoded)) < 1.2 * values
    for value in (0.3, 1.5, float("nan")):  # no bytes give these: they stay as they are
        odd = Tokens(torch.full((2, 3, 4), value), torch.rand(2, 3, 4), "visual")
        kept = Packed.of(odd)
        assert kept.data is odd.data
        assert same(replace(kept.tokens, data=torch.zeros(2, 3, 4)), replace(odd, data=torch.zeros(2, 3, 4)))


def test_hidden_texts_are_the_empty_prompt_and_hidden_references_unseen(prepare):
    batch = batch_of()
    encoded, draws = prepare.encode(batch), Draws.at(0, 0)
    gone = Draws.at(0, 0).uniform(6) < 0.5
    assert 0 < int(gone.sum()) < 6
    _, (text, *references) = prepare(encoded, draws)
    empty = prepare.modalities.text([""])
    for i, hidden in enumerate(gone.tolist()):
        true = empty if hidden else prepare.modalities.text([batch.samples[i].text])
        n = len(true)
        assert torch.equal(text.data[i, :n], true.data[0])
        assert text.full_mask[i].tolist() == [True] * n + [False] * (len(text) - n)
        counts = {bool(r.full_mask[i].any()) for r in references[: len(batch.samples[i].references)]}
        assert len(counts) == 1  # all of a sample's references are seen, or none
    assert {bool(references[0].full_mask[i].any()) for i in range(6)} == {True, False}
    everything = Prepare(prepare.modalities, 0, 0)(encoded, Draws.at(0, 0))[1]
    assert all(same(a, b) for a, b in zip(flat(everything), flat(named("edit").split(encoded.streams)[1]), strict=True))


def test_a_batch_of_tokens_divides_as_one_of_samples_does(prepare):
    batch = batch_of()
    whole = prepare.encode(batch)
    parts = whole.split(3)
    assert [p.ids for p in parts] == [p.ids for p in batch.split(3)]
    assert torch.equal(torch.cat([p.streams["visual"].data for p in parts]), whole.streams["visual"].data)
    assert torch.equal(parts[1].streams["references"][0].data, whole.streams["references"][0].data[2:4])
    assert sum(p.nbytes for p in parts) >= whole.nbytes  # places that all share are in every part
    with pytest.raises(ValueError, match="6 does not divide into 4"):
        whole.split(4)


class Ahead:
    """A stand-in for the processes: the next batch is there when it is told so."""

    batch_size, mixes = 4, True

    def __init__(self, loader):
        self.loader, self.ready, self.given, self.closed = loader, False, 0, False
        self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict

    def __next__(self):
        self.given += 1
        return next(self.loader)

    def close(self):
        self.closed = True


def numbered(parts):
    """Micro-batches of two samples that tell their number."""

    class Counting:
        batch_size, position = 4, 0

        def state_dict(self):
            return {"skipped": 0, "position": self.position}

        def load_state_dict(self, state):
            self.position = state["position"]

        def __next__(self):
            first, self.position = self.position, self.position + (parts or 1)
            zeros = torch.zeros(2, 3, 4)
            made = [
                Encoded.of("picture", {"visual": Tokens(zeros, zeros, "visual")}, [f"{n}/a", f"{n}/b"])
                for n in range(first, self.position)
            ]
            return MixedBatch(made) if parts else made[0]

    return Counting()


def test_batches_are_repeated_only_while_the_next_is_waited_for():
    source = Ahead(numbered(2))
    echo = Echo(source, most=3, held=1 << 20)
    got = [next(echo).ids for _ in range(7)]
    assert source.given == 3  # steps 0, 3 and 6: after two repetitions one waits
    assert [got[i] for i in (0, 3, 6)] == [
        [f"{n}/{x}" for n in pair for x in "ab"] for pair in ((0, 1), (2, 3), (4, 5))
    ]
    assert echo.state_dict() == {"skipped": 0, "position": 6, "repeated": 4}
    source.ready = True  # as fast as they are used: every batch is used once
    before = source.given
    for _ in range(5):
        next(echo)
    assert source.given == before + 5
    echo.close()
    assert source.closed


def test_the_count_of_repetitions_is_resumed_and_a_run_without_them_has_none():
    echo = Echo(Ahead(numbered(None)), most=9, held=1)
    for repeated in (5, 0):
        state = {"skipped": 0, "position": 3, "repeated": repeated}
        echo.load_state_dict(state)
        assert echo.state_dict() == state
    echo.load_state_dict({"skipped": 0, "position": 2})
    assert echo.state_dict() == {"skipped": 0, "position": 2, "repeated": 0}


def test_what_is_repeated_is_drawn_evenly_from_what_is_held():
    source = Ahead(numbered(2))
    echo = Echo(source, most=10**9, held=1 << 20)
    for source.ready in [True] * 4 + [False] * 400:
        if source.ready:
            next(echo)
    source.ready = False
    counts = Counter(name for _ in range(400) for name in next(echo).ids if name.endswith("a"))
    assert set(counts) == {f"{n}/a" for n in range(8)}
    assert max(counts.values()) < 1.6 * min(counts.values())
    size = echo._kept[0][1]
    small = Echo(Ahead(numbered(None)), most=10**9, held=3 * size)
    small.loader.ready = True
    for _ in range(9):
        next(small)
    small.loader.ready = False
    assert {next(small).ids[0] for _ in range(60)} == {"6/a", "7/a", "8/a"}  # the oldest are forgotten first


def test_a_training_with_echo_sees_each_batch_as_often_as_allowed(tmp_path):
    config = tiny(steps=4, mixture=("tabletop-still:picture", "tabletop-still:inpaint"))
    plain = tmp_path / "plain"
    train(config, plain, progress=False)
    echoed = replace(config, data=replace(config.data, processes=1, echo=2))
    state = train(echoed, tmp_path / "echo", progress=False)
    assert state.step == 4
    repeated = [row["repeated"] for row in read_metrics(tmp_path / "echo" / "metrics.jsonl")]
    assert repeated == sorted(repeated)  # every other batch at most
    assert all(count <= step // 2 for step, count in enumerate(repeated, 1))
    assert "repeated" not in read_metrics(plain / "metrics.jsonl")[-1]
    assert losses(tmp_path / "echo")[0] == losses(plain)[0]  # the first batch is always a fresh one


def test_wrong_wishes_are_refused():
    with pytest.raises(ValueError, match=r"data\.echo 2 .* data\.processes \(0"):
        DataConfig(echo=2)
    with pytest.raises(ValueError, match=r"data\.held 0"):
        DataConfig(held=0)
    with pytest.raises(ValueError, match="used 0 times"):
        Echo(Ahead(numbered(None)), most=0, held=1)


def test_encoding_goes_on_where_the_loader_stands(prepare):
    make = partial(lambda: MixtureLoader([Loader(open_named("tabletop-still", size=32, count=8), 2, 0)], [1], 4, 0, 2))
    encoding, plain = Encoding.opened(make, prepare.encode), make()
    next(plain)
    state = plain.state_dict()
    encoding.load_state_dict(state)
    assert next(encoding).ids == next(plain).ids
    assert encoding.state_dict() == plain.state_dict()
