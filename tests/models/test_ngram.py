"""N-grams against counting by hand, and as a language model of a run."""

from __future__ import annotations

import io
import math
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlcli import load_run, train
from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.data.base import TokenBatch
from dlcli.errors import ConfigError
from dlcli.models.ngram import NGram
from dlcli.registry import MODELS
from dlcli.spec import DataSpec

VOCABULARY = 5
TEXT = torch.randint(VOCABULARY, (181,), generator=torch.Generator().manual_seed(0)) ** 2 % VOCABULARY  # not uniform
LINES = "To be, or not to be: that is the question.\n" * 30


def build(**options: Any) -> NGram:
    config = {**load_yaml(CONFIGS / "model" / "ngram.yaml"), **options}
    model: NGram = MODELS.build(config, spec=DataSpec(vocab_size=VOCABULARY), label="example")
    return model


def batches(text: Tensor, window: int, size: int) -> list[TokenBatch]:
    """Consecutive windows of a text, as data give them in the order of the text."""
    tokens, targets = text[:-1].view(-1, window), text[1:].view(-1, window)
    return [TokenBatch(*pair) for pair in zip(tokens.split(size), targets.split(size), strict=True)]


def by_hand(text: list[int], history: list[int], smoothing: str, strength: float) -> list[float]:
    """P(w | history), by the definition."""
    length = len(history) + 1
    grams = Counter(tuple(text[i : i + length]) for i in range(len(text) - length + 1))
    counts = [grams[(*history, word)] for word in range(VOCABULARY)]
    if smoothing == "laplace":
        return [(count + strength) / (sum(counts) + strength * VOCABULARY) for count in counts]
    lower = by_hand(text, history[1:], smoothing, strength) if history else [1 / VOCABULARY] * VOCABULARY
    return [(c + strength * p) / (sum(counts) + strength) for c, p in zip(counts, lower, strict=True)]


@pytest.mark.parametrize("smoothing", ["laplace", "interpolated"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_counting_by_hand(smoothing: str, order: int) -> None:
    model = build(order=order, smoothing=smoothing, strength=0.7)
    model.fit(batches(TEXT, window=9, size=4))
    tokens = torch.randint(VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))
    found = model(tokens).exp()
    assert found.shape == (3, 7, VOCABULARY)
    for row in range(3):
        for position in range(7):
            history = tokens[row, max(0, position + 2 - order) : position + 1].tolist() if order > 1 else []
            expected = by_hand(TEXT.tolist(), history, smoothing, 0.7)
            torch.testing.assert_close(found[row, position], torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_the_state_is_the_history_across_windows() -> None:
    model = build(order=4)
    model.fit(batches(TEXT, window=9, size=4))
    tokens = TEXT[:24].view(2, 12)
    state, parts = model.initial_state(2), []
    for piece in tokens.split([1, 1, 5, 2, 3], dim=1):
        logits, state = model(piece, state)
        parts.append(logits)
    assert torch.equal(torch.cat(parts, 1), model(tokens))


def test_counts_do_not_depend_on_how_the_text_was_cut() -> None:
    models = [build(order=3), build(order=3)]
    facts = [
        model.fit(batches(TEXT, window, size)) for model, window, size in zip(models, (9, 20), (4, 9), strict=True)
    ]
    assert facts[0] == facts[1]
    assert facts[0]["tokens"] == 181
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name])
    assert [int(counts.sum()) for counts in models[0].frequencies().values()] == [181, 180, 179]
    assert all((counts.diff() <= 0).all() for counts in models[0].frequencies().values())


def test_saved_counts_load_whatever_their_number() -> None:
    model, other = build(order=3), build(order=3)
    model.fit(batches(TEXT, 9, 4))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(model(TEXT[None]), other(TEXT[None]))
    assert torch.allclose(build()(TEXT[None]).exp(), torch.tensor(1 / VOCABULARY))  # nothing is known before


def test_what_cannot_be_numbered_or_counted_is_refused() -> None:
    with pytest.raises(ConfigError, match="^model.order=5: with 100,000 different tokens at most 3$"):
        MODELS.build(
            {**load_yaml(CONFIGS / "model" / "ngram.yaml"), "order": 5}, spec=DataSpec(vocab_size=100_000), label="x"
        )
    with pytest.raises(ConfigError, match="model.order=20: the training text has 10 tokens; use a smaller one"):
        build(order=20).fit(batches(TEXT[:10], 9, 1))


def test_a_run_is_evaluated_sampled_and_predicts(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(LINES)
    run = train(
        [
            *("data=text", f"data.path={tmp_path / 'text.txt'}", "data.sequence_length=16", "data.val_fraction=0.2"),
            *("model=ngram", "model.order=8", f"run_dir={tmp_path / 'runs'}"),
        ]
    )
    assert run.choices["trainer"] == "fit"
    opened = load_run(str(run.directory))
    measured = opened.evaluate("val")
    assert measured == run.summary["metrics"]["val"]
    assert measured["perplexity"] < 1.3
    assert measured["perplexity"] == pytest.approx(math.exp(measured["loss"]))
    text = "".join(opened.sample({**opened.task.sample_defaults, "prompt": "To be", "length": 30, "temperature": 0.0}))
    assert text == LINES[:35]
    tokens = torch.tensor([opened.vocabulary.encode(line) for line in (LINES[:40], LINES[:40][::-1])])
    usual, strange = opened.task.prediction_rows(opened.model, TokenBatch(tokens[:, :-1], tokens[:, 1:]))["loss"]
    assert usual < 0.5 < 2 < strange
    if find_spec("matplotlib") is not None:
        shown = run.task.preview({"model": run.model}, None)
        assert shown["zipf"].dtype == torch.uint8
