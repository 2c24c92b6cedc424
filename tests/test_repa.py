"""REPA: the same loss with another teacher, and encoders whose features lie where the tokens do."""

import pytest
import torch
from torch import nn

from conftest import picture_tokens, small_network, text_tokens
from selfflow.config import ObjectiveConfig
from selfflow.data.packs import PackMissing
from selfflow.modalities.visual import Patches
from selfflow.objectives import FlowMatching, Repa
from selfflow.objectives.auxiliary import cosine
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train.encoders import PictureEncoder, load_encoder

PATCHES = Patches(4)


class Encoder(nn.Module):
    """A fixed linear map of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(12, 7)

    def forward(self, data):
        return self.map(data.data)


def repa(encoder, **options):
    return Repa(small_network(), 64, 2, encoder, 7, **options)


def test_the_total_is_velocity_and_weighted_cosine_with_the_clean_data_s_features():
    encoder, data, context = Encoder(), picture_tokens(), [text_tokens()]
    objective = repa(encoder, gamma=0.5)
    losses = objective(data, context, draws=Draws.at(0, 0))
    plain = FlowMatching(small_network())(data, context, draws=Draws.at(0, 0))  # same noise, same times
    torch.testing.assert_close(losses.parts["loss_velocity"], plain.total.detach())
    draws = Draws.at(0, 0)
    noise = draws.normal(*data.data.shape)
    times = objective.times(3, len(data), draws)
    *_, (student,) = objective.student_pass(data, data.data, noise, times, (context,), taps=(2,))
    expected = 1 - cosine(objective.head(student), encoder(data))
    torch.testing.assert_close(losses.total, plain.total + 0.5 * expected)


def test_the_encoder_is_neither_trained_nor_saved():
    encoder = Encoder()
    objective = repa(encoder)
    objective(picture_tokens(), [text_tokens()], draws=Draws.at(0, 0)).total.backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in objective.parameters()}
    assert not [k for k in objective.state_dict() if "encoder" in k]
    assert all(p.grad is not None for p in objective.head.parameters())


def test_what_the_encoder_does_not_know_is_trained_by_flow_matching_alone():
    data, context = picture_tokens(), [text_tokens()]
    objective = repa(lambda data: None)
    losses = objective(data, context, draws=Draws.at(0, 0))
    plain = FlowMatching(small_network())(data, context, draws=Draws.at(0, 0))
    torch.testing.assert_close(losses.total, plain.total)
    losses.total.backward()
    assert all(p.grad is not None for p in objective.head.parameters())  # or DDP would wait for them
    assert "cosine" not in losses.parts


def test_features_lie_where_the_tokens_do():
    pictures = torch.rand(2, 3, 8, 12) * 2 - 1
    tokens = PATCHES.tokens(pictures)
    encoder = PictureEncoder(lambda x, grid: x, PATCHES, 3)  # pixels as features, pooled to the grid of tokens
    expected = tokens.data.unflatten(-1, (16, 3)).mean(dim=2)
    torch.testing.assert_close(encoder(tokens), expected)


def test_only_whole_pictures_are_encoded():
    encoder = PictureEncoder(lambda x, grid: x, PATCHES, 3)
    tokens = PATCHES.tokens(torch.zeros(1, 3, 8, 8))
    part = tokens.take(torch.tensor([True, True, True, False]))
    clip = Patches(4, name="clip").clip_tokens(torch.zeros(1, 2, 3, 8, 8), 10.0)
    sound = Tokens(torch.zeros(1, 5, 8), torch.zeros(1, 5, 4), "audio")
    assert encoder(part) is None
    wide = PATCHES.tokens(torch.zeros(2, 3, 16, 16))
    assert encoder(wide).shape == (2, 16, 3)
    rows, columns = wide.positions[0, :, 1], wide.positions[0, :, 2]
    for hole in ((rows < 0) & (columns > 0), (rows.abs() < 0.2) & (columns.abs() < 0.2), rows > 0):
        assert encoder(wide.take(hole)) is None  # a grid, too, but cut out: of a quarter, the middle, the lower half
    assert encoder(clip) is None
    assert encoder(sound) is None
    assert encoder(torch.zeros(1, 5, 8)) is None
    assert encoder(Tokens.join([tokens, sound])) is None


def test_mobilenet_sees_one_cell_for_each_token():
    try:
        encoder = load_encoder("mobilenet", Patches(8))
    except PackMissing as missing:
        pytest.skip(str(missing))
    pictures = torch.zeros(1, 3, 64, 64)
    pictures[:, :, 48:, 48:] = 1
    features = encoder(Patches(8).tokens(pictures))
    assert features.shape == (1, 64, 96)
    change = (features - encoder(Patches(8).tokens(torch.zeros(1, 3, 64, 64)))).norm(dim=-1).view(8, 8)
    assert change[6:, 6:].mean() > 5 * change[:3, :3].mean()


def test_a_vision_transformer_s_patch_tokens_come_in_the_order_of_ours(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), PATCHES)
    assert encoder.width == 32
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    features = encoder(PATCHES.tokens(pictures))
    net = transformers.Dinov2Model.from_pretrained(tmp_path).eval()
    x = torch.nn.functional.interpolate(pictures, size=(28, 28), mode="bicubic", antialias=True).clamp(-2, 2)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = net(pixel_values=x).last_hidden_state[:, 1:]  # the first token is the class
    torch.testing.assert_close(features, expected)


def test_what_cannot_be_an_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="latents of 8 channels"):
        load_encoder("mobilenet", Patches(2, channels=8))
    pytest.importorskip("transformers")
    with pytest.raises(FileNotFoundError, match="no directory or hub id"):
        load_encoder(str(tmp_path / "nothing"), PATCHES)
    assert ObjectiveConfig(kind="repa").encoder == "mobilenet"
