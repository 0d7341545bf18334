"""Each change of pictures against torchvision's, or written out picture by picture."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from dlcli.functional import augmentation as change

COUNT = 6


def images(channels=3, height=13, width=10):
    return torch.rand(COUNT, channels, height, width, generator=torch.Generator().manual_seed(4))


def numbers(low, high, seed=5):
    return torch.rand(COUNT, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 3])
def test_crops_and_flips_move_pixels_exactly(channels, padding):
    pixels = (images(channels) * 255).byte()
    top, left = torch.tensor([0, 1, 6, 3, 2, 5]), torch.tensor([6, 0, 3, 3, 4, 1])
    if not padding:
        top, left = torch.zeros(COUNT, dtype=torch.long), torch.zeros(COUNT, dtype=torch.long)
    across, down = torch.tensor([0, 1, 0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1, 0, 0]).bool()
    found = change.crop_and_flip(pixels, top, left, across, down, padding)
    assert found.dtype == torch.uint8
    for n in range(COUNT):
        padded = F.pad(pixels[n], (padding,) * 4)
        expected = tv.crop(padded, int(top[n]), int(left[n]), 13, 10)
        expected = tv.horizontal_flip(expected) if across[n] else expected
        assert torch.equal(found[n], tv.vertical_flip(expected) if down[n] else expected)


def test_affine_changes_equal_torchvisions():
    pictures = images()
    degrees, shear, scale = numbers(-60, 60), numbers(-30, 30, 6), numbers(0.7, 1.5, 7)
    right, down = torch.tensor([-3.0, 0, 2, 1, 0, 4]), torch.tensor([1.0, -2, 0, 3, 0, -4])
    matrices = change.affine_matrices(degrees, right / 10, down / 13, scale, shear, 13 / 10)
    found = change.warp(pictures, matrices)
    for n in range(COUNT):
        expected = tv.affine(
            pictures[n],
            angle=float(degrees[n]),
            translate=[float(right[n]), float(down[n])],
            scale=float(scale[n]),
            shear=[float(shear[n]), 0.0],
            interpolation=tv.InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(found[n], expected, rtol=0, atol=2e-5)


def test_a_quarter_turn_is_exact_and_clockwise():
    pictures = images(height=9, width=9)
    zero, one = torch.zeros(COUNT), torch.ones(COUNT)
    turned = change.warp(pictures, change.affine_matrices(90 * one, zero, zero, one, zero, 1.0))
    torch.testing.assert_close(turned, pictures.rot90(-1, (2, 3)), rtol=0, atol=1e-5)


def test_a_crop_is_stretched_to_the_whole():
    pictures = images(height=12, width=8)
    quarter, half = torch.full((COUNT,), 0.25), torch.full((COUNT,), 0.5)
    found = change.warp(pictures, change.crop_matrices(quarter, half, half, half))
    part = pictures[:, :, 3:9, 4:8]
    expected = F.interpolate(part, (12, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])  # edges see their neighbours here


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (change.brightness, tv.adjust_brightness, 0.2, 1.9),
        (change.contrast, tv.adjust_contrast, 0.2, 1.9),
        (change.saturation, tv.adjust_saturation, 0.2, 1.9),
        (change.hue, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_colours_equal_torchvisions(ours, theirs, low, high):
    pictures, factors = images(), numbers(low, high)
    pictures[0, :, :4] = 0.5  # grey has no hue
    pictures[1, :, 5] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1)
    expected = torch.stack([theirs(picture, float(f)) for picture, f in zip(pictures, factors, strict=True)])
    torch.testing.assert_close(ours(pictures, factors), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("function", [change.brightness, change.contrast])
def test_grey_pictures_have_brightness_and_contrast(function):
    pictures = images(channels=1)
    torch.testing.assert_close(function(pictures, torch.ones(COUNT)), pictures)
    assert not torch.allclose(function(pictures, torch.full((COUNT,), 0.5)), pictures)


def test_boxes_are_where_they_should_be():
    top, left = torch.tensor([0, 2]), torch.tensor([1, 0])
    mask = change.boxes_mask(top, left, torch.tensor([2, 3]), torch.tensor([1, 4]), 5, 4)
    expected = torch.zeros(2, 1, 5, 4, dtype=torch.bool)
    expected[0, :, 0:2, 1:2] = True
    expected[1, :, 2:5, 0:4] = True
    assert torch.equal(mask, expected)


def test_hue_turned_once_around_is_the_same():
    pictures = images()
    torch.testing.assert_close(change.hue(pictures, torch.ones(COUNT)), pictures, rtol=0, atol=1e-5)
    third = change.hue(pictures, torch.full((COUNT,), 1 / 3))
    torch.testing.assert_close(third, pictures[:, [2, 0, 1]], rtol=0, atol=1e-5)  # red -> green -> blue -> red


def test_mixing_is_a_weighted_mean():
    first, second = images(), images().flip(0)
    torch.testing.assert_close(change.mixed(first, second, 0.3), 0.3 * first + 0.7 * second)
    assert math.isclose(float(change.mixed(torch.tensor(1.0), torch.tensor(0.0), 0.3)), 0.3, rel_tol=1e-6)
