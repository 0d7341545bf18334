"""Cross-correlation against torch's convolution, by the matrix that it is, and by hand."""

import pytest
import torch
from torch.nn import functional as F

from dlcli.functional.cross_correlation import (
    cross_correlate,
    cross_correlate_channels,
    dense_at_each_pixel,
    kernel_matrix,
)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_by_hand() -> None:
    picture, kernel = torch.arange(9.0).reshape(3, 3), torch.arange(4.0).reshape(2, 2)
    assert cross_correlate(picture, kernel).tolist() == [[19, 25], [37, 43]]


def test_two_neighbours_that_differ_are_an_edge() -> None:
    picture = torch.ones(6, 8)
    picture[:, 2:6] = 0
    detector = torch.tensor([[1.0, -1.0]])
    assert cross_correlate(picture, detector).tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert not cross_correlate(picture.T, detector).any()  # it sees no horizontal edges


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7)])
def test_equals_torch(size: tuple[int, int]) -> None:
    pictures, kernel = random(4, 5, 7), random(*size)
    expected = F.conv2d(pictures.unsqueeze(1), kernel[None, None]).squeeze(1)
    torch.testing.assert_close(cross_correlate(pictures, kernel), expected)
    pictures, kernels = random(2, 3, 5, 7), random(4, 3, *size)
    torch.testing.assert_close(cross_correlate_channels(pictures, kernels), F.conv2d(pictures, kernels))


def test_a_larger_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a kernel of \(2, 8\) does not fit into pictures of \(5, 7\)"):
        cross_correlate(random(5, 7), random(2, 8))


def test_kernels_of_one_pixel_are_a_dense_layer_over_the_channels() -> None:
    pictures, weight = random(2, 3, 5, 4), random(6, 3)
    dense = dense_at_each_pixel(pictures, weight)
    torch.testing.assert_close(dense, F.conv2d(pictures, weight[:, :, None, None]))
    torch.testing.assert_close(dense, F.linear(pictures.movedim(1, -1), weight).movedim(-1, 1))


def test_the_matrix_and_its_transpose() -> None:
    picture, kernel = random(4, 6), random(2, 3)
    matrix = kernel_matrix(kernel, 4, 6)
    assert matrix.shape == (3 * 4, 4 * 6)
    outputs = cross_correlate(picture, kernel)
    torch.testing.assert_close(matrix @ picture.flatten(), outputs.flatten())
    spread = F.conv_transpose2d(outputs[None, None], kernel[None, None])[0, 0]
    torch.testing.assert_close(matrix.T @ outputs.flatten(), spread.flatten())


def test_gradients() -> None:
    inputs = random(3, 4).requires_grad_(), random(2, 2).requires_grad_()
    assert torch.autograd.gradcheck(cross_correlate, inputs)
    assert torch.autograd.gradcheck(lambda kernel: kernel_matrix(kernel, 3, 4), inputs[1:])
