"""What is done to pictures: each pixel is where it should be."""

from __future__ import annotations

import torch

from dlcli.functional import pretexts


def images(count: int = 24, channels: int = 2, side: int = 4) -> torch.Tensor:
    return torch.arange(count * channels * side * side, dtype=torch.float32).view(count, channels, side, side)


def test_each_picture_is_turned_by_its_own_quarters() -> None:
    turns = torch.arange(24) % 4
    found = pretexts.rotate(images(), turns)
    for picture, turned, number in zip(images(), found, turns.tolist(), strict=True):
        assert torch.equal(turned, torch.rot90(picture, number, (1, 2)))
    turned, drawn = pretexts.rotated(images())
    assert torch.equal(turned, pretexts.rotate(images(), drawn))
    assert set(drawn.tolist()) == {0, 1, 2, 3}


def test_quarters_stand_in_their_order() -> None:
    pictures = images(side=6)
    found = pretexts.shuffle_patches(pictures, torch.arange(24))
    corners = [(0, 0), (0, 3), (3, 0), (3, 3)]
    for number in range(24):
        for place, quarter in enumerate(pretexts.PATCH_ORDERS[number].tolist()):
            (to_row, to_column), (row, column) = corners[place], corners[quarter]
            assert torch.equal(
                found[number, :, to_row : to_row + 3, to_column : to_column + 3],
                pictures[number, :, row : row + 3, column : column + 3],
            )
    assert torch.equal(found[0], pictures[0])
    assert len(torch.unique(pretexts.PATCH_ORDERS, dim=0)) == 24


def test_a_share_of_whole_patches_is_hidden() -> None:
    pictures = images(side=8) + 1
    hidden, mask = pretexts.masked_patches(pictures, 0.75, 4)
    assert mask.shape == (24, 1, 8, 8)
    by_patch = mask.view(24, 2, 4, 2, 4).float().mean((2, 4))  # of each patch the share that is hidden
    assert set(by_patch.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(by_patch.sum((1, 2)), torch.full((24,), 3.0))
    assert torch.equal(hidden == 0, mask.expand_as(hidden))
    assert torch.equal(hidden[~mask.expand_as(hidden)], pictures[~mask.expand_as(hidden)])
    assert int(pretexts.masked_patches(pictures, 0.0, 4)[1].sum()) == 24 * 16  # one patch at least
    assert not pretexts.masked_patches(pictures, 0.99, 4)[1].all()


def test_noise_has_its_deviation() -> None:
    torch.manual_seed(0)
    added = pretexts.noisy(torch.ones(100, 1, 20, 20), 0.5) - 1
    assert abs(float(added.std()) - 0.5) < 0.01
    assert abs(float(added.mean())) < 0.01


def test_without_colours_all_channels_are_the_brightness() -> None:
    picture = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    brightness = 0.299 * 1 + 0.587 * 0.5 + 0.114 * 0.25
    torch.testing.assert_close(pretexts.without_colours(picture), torch.full((1, 3, 2, 2), brightness))
