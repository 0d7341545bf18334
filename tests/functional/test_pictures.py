"""Pictures: where each pixel lands, the scaling, and the colours."""

import pytest
import torch

from dlcli.functional.pictures import BACKGROUND, BORDER, GREEN, MISSING, RAMP, RED, grid, heatmap


def test_a_grid_puts_each_image_in_its_place() -> None:
    images = torch.randint(0, 256, (5, 3, 40, 36), dtype=torch.uint8)
    picture = grid(images)
    height, width = 40 + 2 * BORDER, 36 + 2 * BORDER
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 2 * height, 3 * width)  # 5 images: 2 rows of 3
    for i in range(5):
        top, left = i // 3 * height + BORDER, i % 3 * width + BORDER
        assert torch.equal(picture[:, top : top + 40, left : left + 36], images[i])
    assert (picture[:, height:, 2 * width :] == BACKGROUND).all()


def test_frames_have_the_given_colours() -> None:
    picture = grid(torch.zeros(2, 1, 32, 32), torch.tensor([GREEN, RED], dtype=torch.uint8))
    assert picture[:, 0, 0].tolist() == list(GREEN)
    assert picture[:, -1, -1].tolist() == list(RED)
    assert picture[:, BORDER, BORDER].tolist() == [0, 0, 0]


def test_floats_are_scaled_from_black_to_white_and_grey_has_three_channels() -> None:
    images = torch.full((1, 1, 32, 32), 0.5)
    images[0, 0, 0, 0], images[0, 0, 0, 1], images[0, 0, 0, 2] = -1.5, 2.5, float("nan")
    picture = grid(images)[:, BORDER, BORDER : BORDER + 4]
    assert picture[:, :2].tolist() == [[0, 255]] * 3
    assert picture[:, 3].tolist() == [128] * 3


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    picture = grid(images)
    assert picture.shape == (3, 32 + 2 * BORDER, 32 + 2 * BORDER)
    assert torch.equal(picture[0, BORDER:-BORDER:4, BORDER:-BORDER:4], images[0, 0])


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 2, 8, 8), (0, 1, 8, 8)])
def test_a_grid_refuses_what_is_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs images of shape \(N, 1 or 3, H, W\)"):
        grid(torch.zeros(shape))


def test_a_heatmap_goes_from_the_first_to_the_last_colour() -> None:
    picture = heatmap(torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 2.0]]))
    cell = picture.shape[1] // 2
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 2 * cell, 3 * cell)
    colours = picture[:, ::cell, ::cell].permute(1, 2, 0).tolist()
    assert colours == [[list(RAMP[0]), list(RAMP[1]), list(RAMP[2])], [list(RAMP[3]), list(RAMP[4]), list(RAMP[2])]]


def test_the_ramp_grows_in_brightness() -> None:
    picture = heatmap(torch.arange(200.0).view(1, -1)).double()
    brightness = (torch.tensor([0.2126, 0.7152, 0.0722]).double() @ picture[:, 0]).tolist()
    assert brightness == sorted(brightness)


def test_a_heatmap_of_equal_or_missing_numbers() -> None:
    assert heatmap(torch.zeros(2, 2))[:, 0, 0].tolist() == list(RAMP[0])
    picture = heatmap(torch.tensor([[float("nan"), 1.0], [2.0, float("inf")]]))
    assert picture[:, 0, 0].tolist() == picture[:, -1, -1].tolist() == [MISSING] * 3
    assert picture[:, -1, 0].tolist() == list(RAMP[-1])
    assert heatmap(torch.full((1, 1), float("nan")))[:, 0, 0].tolist() == [MISSING] * 3


def test_a_heatmap_refuses_what_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"needs a matrix, not a tensor of shape \(3,\)"):
        heatmap(torch.zeros(3))


def test_a_large_matrix_has_a_pixel_for_each_cell() -> None:
    assert heatmap(torch.eye(1000)).shape == (3, 1000, 1000)
