"""The bag of words: a linear model on the words that occur."""

from __future__ import annotations

import torch

from dlcli.registry import MODELS
from dlcli.spec import DataSpec


def build(classes: int, activation: str | None = None) -> torch.nn.Module:
    config = {"name": "bag_of_words", "output_activation": activation}
    model: torch.nn.Module = MODELS.build(config, spec=DataSpec(vocab_size=9, num_outputs=classes), label="words")
    return model


def test_it_is_a_linear_function_of_which_words_occur() -> None:
    model = build(4)
    words = torch.tensor([[3, 8, 0, 0], [1, 2, 7, 5], [0, 0, 0, 0]])
    occurs = torch.zeros(3, 9).scatter_(1, words, 1.0)
    occurs[:, 0] = 0
    weight = model.get_parameter("embedding.weight")
    torch.testing.assert_close(model(words), occurs @ weight)


def test_the_one_number_of_two_classes_is_that_of_a_sigmoid() -> None:
    model, probable = build(2), build(2, "softmax")
    assert model.get_parameter("embedding.weight").shape == (9, 1)
    probable.load_state_dict(model.state_dict())
    words = torch.tensor([[3, 8, 0], [1, 2, 7]])
    spam = torch.sigmoid(model(words)[:, 1])
    torch.testing.assert_close(probable(words), torch.stack([1 - spam, spam], 1))
    assert (model(words)[:, 0] == 0).all()


def test_padding_learns_nothing() -> None:
    model = build(2)
    model(torch.tensor([[3, 0], [0, 0]])).square().sum().backward()
    gradient = model.get_parameter("embedding.weight").grad
    assert gradient is not None
    assert gradient.nonzero()[:, 0].tolist() == [3]
