"""From hidden vectors to frames: patches, how like they are, and how they move."""

from __future__ import annotations

import pytest
import torch

from addnorm.layers.initialise import initialise_
from addnorm.layers.motion import Change, Motion, Pixels, assembled, likeness, windows

FRAMES = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)).double()


def motion(motions: int = 2, reach: int = 2, channels: int = 3) -> Motion:
    head = Motion(8, 4, channels, motions, reach).double()
    initialise_(head, 0)
    return head


def numbers_for(head: Motion, shifts: list[tuple[int, int]], chosen: int) -> torch.Tensor:
    """What a head would have to read to move by the shifts, and to choose one of them (0 = paint)."""
    kernels = torch.full((2, 6, 2, head.motions, 2 * head.reach + 1), -1e3).double()
    for k, (dy, dx) in enumerate(shifts):
        kernels[:, :, 0, k, head.reach + dy] = 1e3
        kernels[:, :, 1, k, head.reach + dx] = 1e3
    masks = torch.full((2, 6, head.motions + 1, 16), -1e3).double()
    masks[:, :, chosen] = 1e3
    paint = torch.zeros(2, 6, 3 * 16).double()
    return torch.cat([kernels.flatten(2), masks.flatten(2), paint], dim=2)


def test_patches_come_together_again():
    assert torch.equal(assembled(windows(FRAMES, 4, 0), 8, 12), FRAMES)


def test_a_window_is_the_patch_with_what_stands_around_it_and_black_beyond():
    cut = windows(FRAMES, 4, 1)
    assert cut.shape == (2, 6, 3, 6, 6)
    assert torch.equal(cut[:, 4, :, :5], FRAMES[:, :, 3:8, 3:9])  # second row of patches, second column
    assert (cut[:, 4, :, 5] == 0).all()


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, -1), (-2, 0), (1, 2)])
def test_a_motion_takes_pixels_from_where_it_points(dy, dx):
    head = motion()
    moved = assembled(head.patches(numbers_for(head, [(0, 0), (dy, dx)], chosen=2), FRAMES), 8, 12)
    expected = torch.nn.functional.pad(FRAMES, (2, 2, 2, 2))[:, :, 2 + dy : 10 + dy, 2 + dx : 14 + dx]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)  # float64


def test_what_is_painted_does_not_depend_on_the_last_frame():
    head = motion()
    painted = head.patches(numbers_for(head, [(0, 0), (1, 1)], chosen=0), FRAMES)
    torch.testing.assert_close(painted, torch.full_like(painted, 0.5), rtol=0, atol=1e-12)


def test_pixels_stay_between_the_darkest_and_the_brightest():
    for head in (motion(), Pixels(8, 4, 3).double()):
        initialise_(head, 1)
        ours = head(5 * torch.randn(2, 6, 8).double(), FRAMES)
        assert ours.shape == FRAMES.shape and ours.min() >= 0 and ours.max() <= 1


def test_a_fresh_head_keeps_black_almost_black():
    assert motion()(torch.zeros(2, 6, 8).double(), torch.zeros_like(FRAMES)).max() < 0.02  # e^-3 of a half, of 3 parts


def test_no_change_is_the_last_frame():
    head = Change(8, 4, 3).double()
    initialise_(head, 0)
    assert torch.equal(head(torch.zeros(2, 6, 8).double(), FRAMES), FRAMES)


@pytest.mark.parametrize("channels", [1, 3])
def test_likeness_is_the_cosine_for_every_shift(channels):
    before, now = FRAMES[:1, :channels], FRAMES[1:, :channels]
    found = likeness(before, now, 4, 2)
    assert found.shape == (1, 6, 25)
    around = windows(before, 4, 2)[0, 3]
    own = windows(now, 4, 0)[0, 3].flatten()
    places = [around[:, dy : dy + 4, dx : dx + 4].flatten() for dy in range(5) for dx in range(5)]
    cosine = torch.stack([(own @ place) / (own @ own * (place @ place) + 1e-4).sqrt() for place in places])
    centred = cosine - cosine.mean()
    expected = centred / (centred.square().mean() + 1e-4).sqrt()
    torch.testing.assert_close(found[0, 3], expected, rtol=0, atol=1e-10)  # float64


def test_likeness_is_highest_where_the_patch_came_from():
    now = torch.nn.functional.pad(FRAMES, (1, 0, 2, 0))[:, :, :8, :12]  # two down, one to the right
    best = likeness(FRAMES, now, 4, 2)[:, 4].argmax(-1)
    assert (best == 0 * 5 + 1).all()  # dy = -2, dx = -1


def test_likeness_of_black_is_nothing_and_has_a_gradient():
    black = torch.zeros(1, 1, 8, 8, requires_grad=True)
    found = likeness(black, black, 4, 2)
    found.sum().backward()
    assert (found == 0).all() and black.grad is not None and black.grad.isfinite().all()
