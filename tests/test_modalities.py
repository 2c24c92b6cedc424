"""Pictures, clips, sound, actions to tokens and back: exact inverses, exact times, clear errors."""

import pytest
import torch
from einops import rearrange

from selfflow.modalities.action import Actions
from selfflow.modalities.audio import Audio
from selfflow.modalities.visual import Patches
from selfflow.tokens import grid_positions


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------- pictures and clips


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_picture_comes_back(frames):
    patches, x = Patches(4, frames=frames), values(2, 3, 8, 12)
    tokens = patches.tokens(x, time=0.5, index=3.0)
    assert tokens.data.shape == (2, 6, patches.modality.channels)
    assert torch.equal(tokens.positions[1], grid_positions(2, 3, time=0.5, index=3.0))
    back = patches.pictures(tokens.data, 8, 12)
    assert torch.equal(back, x) if frames == 1 else torch.allclose(back, x, atol=1e-6)


def test_a_picture_is_the_mean_of_the_copies_a_token_holds():
    patches, x = Patches(2, channels=1, frames=2), values(1, 2, 1, 4, 4)
    data = patches.clip_tokens(x, fps=10).data
    assert torch.allclose(patches.pictures(data, 4, 4), x.mean(dim=1))


def test_values_of_a_token_lie_frame_row_column_channel():
    clip = values(1, 4, 3, 4, 6)
    data = Patches(2, frames=2).clip_tokens(clip, fps=8).data
    assert data.shape == (1, 2 * 2 * 3, 2 * 2 * 2 * 3)
    token = data[0, 1 * 6 + 1 * 3 + 2]  # second pair of frames, second row, third column
    block = clip[0, 2:4, :, 2:4, 4:6]
    assert torch.equal(token, rearrange(block, "f c p s -> (f p s c)"))


def test_one_frame_deep_clips_are_pictures_one_after_the_other():
    patches, clip = Patches(4), values(2, 5, 3, 8, 8)
    tokens = patches.clip_tokens(clip, fps=20, start=1.0)
    each = [patches.tokens(clip[:, j], time=1 + j / 20) for j in range(5)]
    assert torch.equal(tokens.data, torch.cat([t.data for t in each], dim=1))
    assert torch.equal(tokens.positions, torch.cat([t.positions for t in each], dim=1))


def test_the_last_frame_fills_and_the_filling_is_dropped():
    patches, clip = Patches(4, frames=4), values(2, 6, 3, 4, 4)
    tokens = patches.clip_tokens(clip, fps=10)
    assert tokens.data.shape[1] == 2
    assert torch.allclose(tokens.positions[0, :, 0], torch.tensor([0.15, 0.45]))  # of frames 0 1 2 3 and of 4 5
    assert torch.equal(patches.clip(tokens.data, 6, 4, 4), clip)
    assert torch.equal(patches.clip(tokens.data, 8, 4, 4)[:, 5:], clip[:, 5:].expand(-1, 3, -1, -1, -1))


def test_a_picture_is_a_clip_of_one_frame():
    patches, x = Patches(4, frames=3), values(2, 3, 8, 8)
    picture, clip = patches.tokens(x), patches.clip_tokens(x[:, None], fps=25)
    assert torch.equal(picture.data, clip.data)
    assert torch.equal(picture.positions, clip.positions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.tokens(values(1, 3, 10, 8)), "10 × 8 pixels does not divide into patches of 4"),
        (lambda p: p.tokens(values(1, 4, 8, 8)), r"c = 3; got \(1, 4, 8, 8\)"),
        (lambda p: p.tokens(values(3, 8, 8)), r"pictures are \(b, c, height, width\)"),
        (lambda p: p.clip_tokens(values(1, 3, 8, 8), 10), "clips are"),
        (lambda p: p.clip_tokens(values(1, 0, 3, 8, 8), 10), "at least one frame"),
        (lambda p: p.clip_tokens(values(1, 2, 3, 8, 8), 0), "fps is 0"),
        (lambda p: p.clip_tokens(values(1, 2, 3, 8, 8), float("nan")), "fps is nan"),
        (lambda p: p.pictures(values(1, 5, 96), 8, 8), r"need \(b, 4, 96\)"),
        (lambda p: p.clip(values(1, 4, 96), 4, 8, 8), r"need \(b, 8, 96\)"),
        (lambda p: p.clip(values(1, 4, 96), 0, 8, 8), "0 frames"),
        (lambda p: Patches(4, frames=0), "frames 0 must be at least 1"),
    ],
)
def test_wrong_pictures_and_clips(call, message):
    with pytest.raises(ValueError, match=message):
        call(Patches(4, frames=2))


# ----------------------------------------------------------------------------------------------------------- together


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_a_frame_its_sound_and_its_action_share_a_time(start):
    """At frame k there is the sound token whose hop holds it; at action j the frame j · fps / hz and the state."""
    fps, hz, audio = 20, 10, Audio()
    clip = Patches(8).clip_tokens(values(1, 16, 3, 8, 8), fps, start)
    frames = clip.positions[0, :, 0]
    sound = audio.tokens(values(1, int(0.8 * audio.rate)), start).positions[0, :, 0]
    action = Actions().tokens(values(1, 8, 3), hz, start).positions[0, :, 0]
    state = Actions(name="state").tokens(values(1, 8, 5), hz, start).positions[0, :, 0]
    half = audio.hop / audio.rate / 2
    assert frames[0] == action[0] == state[0] == start
    assert sound[0] == pytest.approx(start + half)
    for k in range(16):
        assert frames[k] == pytest.approx(start + k / fps)
        assert (sound - frames[k]).abs().min() <= half + 1e-6
    for j in range(8):
        assert action[j] == state[j] == pytest.approx(start + j / hz)
        assert frames[j * fps // hz] == pytest.approx(float(action[j]))
    # The impulse of sample i lies in the token whose place is next to i / rate, and hardly anywhere else.
    impulse = torch.zeros(1, 3200)
    impulse[0, 1800] = 1
    energy = Audio(power=1).tokens(impulse).data[0].square().sum(1)
    assert int(energy.argmax()) == int((sound[:10] - start - 1800 / audio.rate).abs().argmin())
