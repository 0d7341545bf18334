"""The gallery of the most confident mistakes: which examples it holds, and what is drawn."""

from __future__ import annotations

import torch

from dlcli.functional.pictures import CAPTIONED_SIDE, captioned
from dlcli.metrics.mistakes import SHOWN, MostConfidentMistakes


def batches(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)  # an image's value is its number
    return images, torch.randn(count, 3, generator=random).softmax(1), torch.arange(count) % 3


def test_the_most_certain_of_the_wrong_ones_are_kept_whatever_the_batches() -> None:
    images, probabilities, labels = batches(200)
    wrong = (probabilities.argmax(1) != labels).nonzero().flatten()
    expected = wrong[probabilities[wrong].amax(1).argsort(descending=True)][:SHOWN]
    drawn = []
    for size in (200, 64, 7):
        metric = MostConfidentMistakes(["a", "b", "c"])
        for part in zip(images.split(size), probabilities.split(size), labels.split(size), strict=True):
            metric.update(*part)
        assert metric.kept is not None
        kept, certainty, labelled, predicted = metric.kept
        assert kept[:, 0, 0, 0].tolist() == expected.tolist()
        assert torch.equal(certainty, probabilities[expected].amax(1))
        assert torch.equal(labelled, labels[expected])
        assert torch.equal(predicted, probabilities[expected].argmax(1))
        drawn.append(metric.compute())
    assert torch.equal(drawn[0], drawn[2])
    assert drawn[0].dtype == torch.uint8
    assert drawn[0].shape[0] == 3


def test_fewer_mistakes_than_places_none_and_no_images() -> None:
    images, _, labels = batches(6)
    right = torch.nn.functional.one_hot(labels, 3).float()
    metric = MostConfidentMistakes(["a", "b", "c"])
    metric.update(images, right, labels)
    assert metric.compute().numel() == 0
    metric.update(images[:2], right[1:3], labels[:2])
    columns = metric.compute().shape[2] // CAPTIONED_SIDE
    assert columns == 2  # two mistakes, side by side
    assert MostConfidentMistakes(["a"]).compute().numel() == 0
    table = MostConfidentMistakes(["a", "b", "c"])
    table.update(torch.zeros(6, 4), right, labels)
    assert table.compute().numel() == 0


def test_captions_are_below_the_images_and_names_of_any_script_are_drawn() -> None:
    images = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    picture = captioned(images, [("寿司", "a name that is much too long for one tile: 99%"), ("Ä", "")])
    image = picture[:, :CAPTIONED_SIDE, :CAPTIONED_SIDE]
    assert image.max() == 0  # the black image, enlarged
    assert picture[:, :CAPTIONED_SIDE, CAPTIONED_SIDE + 2 : 2 * CAPTIONED_SIDE].min() == 255
    text = picture[:, CAPTIONED_SIDE:, :CAPTIONED_SIDE]
    assert text.max() > 200
    gap = picture[:, :, CAPTIONED_SIDE : CAPTIONED_SIDE + 2]
    assert gap.max() == gap.min()  # nothing runs over into the next tile
