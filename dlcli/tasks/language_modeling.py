"""Language modelling: predict the next token of a text, and continue texts by drawing one token after another.

Source: d2l sections 9.3 "Language Models" and 9.5 "Recurrent Neural Network Implementation from Scratch"; DLFS
chapter 6; GDL chapters 12 and 14.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.data.base import TokenBatch, generator
from dlcli.errors import ConfigError, NonFiniteError
from dlcli.functional.generation import generate
from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.plots import zipf
from dlcli.hyperparameters import Count, Fraction, Natural, NonNegativeFloat
from dlcli.metrics.accuracy import Accuracy
from dlcli.metrics.base import Mean, Metric
from dlcli.metrics.bits_per_character import BitsPerCharacter
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.tasks.outputs import check_shape
from dlcli.tasks.token_text import TokenDecoder, characters_per_token

PADDING = -100  # the target of a position that does not count
PREVIEW_LENGTH = 200  # tokens of the sample after an evaluation, at most
SEPARATOR = "\n" + "-" * 40 + "\n"


@TASKS.register("language_modeling")
class LanguageModeling(Task):
    """Cross-entropy of the next token, in nats per token, over a TokenBatch.

    Model contract: ``model(tokens (B, T) int64) -> logits (B, T, V)`` is enough. A model may also offer
    ``initial_state(B) -> tuple of tensors`` with ``model(tokens, state) -> (logits, state)``; ``recurrent = True`` if
    that state may be carried from one window of a stream to the next; ``context``, the most tokens that it can see;
    ``frequencies() -> {name: counts}`` of what it has counted, for a picture.

    Metrics: loss (nats per token), perplexity (exp of the loss), bits_per_character (the same information per
    character of text, so that character, word and byte tokens compare), accuracy (of the next token).
    """

    requires: ClassVar[tuple[str, ...]] = ("vocab_size",)
    calls_model_only: ClassVar[bool] = True
    metric_directions = {"loss": "min", "perplexity": "min", "bits_per_character": "min", "accuracy": "max"}

    def __init__(self, *, carry_state: bool, sample: dict[str, Any]):
        """
        Args:
            carry_state: let a recurrent model start each window with the state at the end of the one before it
                (truncated back-propagation through time) instead of with its initial state.
            sample: the defaults of ``sample``'s options, which the check of the configuration has looked at.
        """
        self.carry_state = carry_state
        self.sample_defaults = sample
        self.vocab_size = 0
        self.vocabulary: Any = None
        self.characters: Tensor | None = None  # (V,) of each token

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        """Learn the vocabulary. Without one, tokens count as one character each and there are no samples.

        Raises:
            ConfigError: the default prompt has characters that the vocabulary lacks.
        """
        assert spec.vocab_size is not None
        self.vocab_size = spec.vocab_size
        self.vocabulary = vocabulary
        if vocabulary is None:
            self.characters = torch.ones(self.vocab_size, dtype=torch.int64)
        else:
            self.characters = characters_per_token(vocabulary)
            vocabulary.encode(self.sample_defaults["prompt"])

    def carries_state(self, model: nn.Module) -> bool:
        return self.carry_state and bool(getattr(model, "recurrent", False))

    def training_step(self, networks: Networks, batch: TokenBatch) -> Iterator[Loss]:
        logits, carry = self._forward(networks["model"], batch)
        yield Loss(F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()), carry=carry)

    def metrics(self) -> dict[str, Metric]:
        return {
            "loss": Mean(),
            "perplexity": Mean(torch.exp),
            "bits_per_character": BitsPerCharacter(),
            "accuracy": Accuracy(),
        }

    def evaluation_step(
        self, networks: Networks, batch: TokenBatch, metrics: dict[str, Metric]
    ) -> tuple[Tensor, ...] | None:
        logits, carry = self._forward(networks["model"], batch)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        number = batch.targets.numel()
        assert self.characters is not None
        self.characters = self.characters.to(loss.device)  # copied once
        metrics["loss"].update(loss, number)  # type: ignore[arg-type]
        metrics["perplexity"].update(loss, number)  # type: ignore[arg-type]
        metrics["bits_per_character"].update(loss.double() * number, self.characters[batch.targets].sum())
        metrics["accuracy"].update(logits, batch.targets)
        return carry

    def _forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Logits (B, T, V), and the detached state after the batch if the model carries it."""
        carry: tuple[Tensor, ...] | None = None
        if self.carries_state(model):
            state = batch.carry if batch.carry is not None else model.initial_state(len(batch.tokens))
            logits, state = model(batch.tokens, state)
            carry = tuple(tensor.detach() for tensor in state)
        else:
            logits = model(batch.tokens)
        check_shape(logits, (*batch.tokens.shape, self.vocab_size), "language_modeling", "(batch, tokens, vocabulary)")
        return at_least_float32(logits), carry

    def sample(
        self,
        model: nn.Module,
        *,
        prompt: str,
        length: Count,
        temperature: NonNegativeFloat,
        top_k: Count | None,
        top_p: Fraction | None,
        num_samples: Count,
        seed: Natural,
    ) -> Iterator[str]:
        """Continue ``prompt``; yields pieces of text, the prompt first. The global random state is never touched.

        The model is in evaluation mode from the first piece to the last, then as it was, also if nobody asks for more.

        Args:
            model: a model of this task.
            prompt: the text to continue. An empty one starts after a line break, if the text has any, else a space,
                else a full stop, else the
                first token of the vocabulary.
            length: tokens to generate.
            temperature: below 1 more likely tokens, above 1 more surprising ones; 0 always takes the likeliest.
            top_k: draw from this many likeliest tokens only; None for all.
            top_p: draw from the fewest likeliest tokens that make up this probability; None for all.
            num_samples: 1 streams the text as it comes; several are generated as one batch, then yielded one after
                another with a line between them.
            seed: of the drawing; the same seed gives the same texts, and text i is the same among any number of them
                (but for rounding in the model's arithmetic, which may differ between batch sizes).

        Raises:
            ConfigError: the data have no vocabulary, or not one for the prompt.
            NonFiniteError: the model's outputs are NaN or infinite (raised while generating).
        """
        if self.vocabulary is None:
            raise ConfigError("cannot sample: the data have no vocabulary to write text with")
        ids = [int(token) for token in self.vocabulary.encode(prompt)]
        start = torch.tensor([ids or [self._start_token()]] * num_samples)  # (num_samples, N)
        chunks = generate(
            *(model, start, length),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generators=[generator(seed, index) for index in range(num_samples)],
        )
        return self._write(model, chunks, ids, num_samples)

    def _start_token(self) -> int:
        tokens = list(self.vocabulary.tokens)
        return next((tokens.index(text) for text in ("\n", " ", ".") if text in tokens), 0)

    def _write(
        self, model: nn.Module, chunks: Iterator[list[list[int]]], prompt: list[int], num_samples: int
    ) -> Iterator[str]:
        """The text of the prompt and of the tokens that are generated after it, a few of each sample at a time."""
        texts = [TokenDecoder(self.vocabulary, prompt) for _ in range(num_samples)]
        added = (["".join(map(text.add, new)) for text, new in zip(texts, chunk, strict=True)] for chunk in chunks)
        with evaluating(model):
            if num_samples == 1:  # shown while it grows
                (text,) = texts
                yield from filter(None, chain([text.prompt], (piece for (piece,) in added)))
                yield from filter(None, [text.finish()])
                return
            grown = list(added)
        for index, text in enumerate(texts):
            if index:
                yield SEPARATOR
            yield text.prompt + "".join(pieces[index] for pieces in grown) + text.finish()

    @torch.no_grad()
    def prediction_rows(self, model: nn.Module, batch: TokenBatch) -> dict[str, list[Any]]:
        """How surprising each sequence of a batch is: tokens, loss (nats per token), perplexity, bits_per_character.

        Targets below 0 are padding. What is longer than a model's context is read in windows of that length.
        """
        nats = torch.zeros(len(batch.tokens), dtype=torch.float64)
        window = getattr(model, "context", None) or batch.tokens.shape[1]
        with evaluating(model):
            parts = zip(torch.split(batch.tokens, window, 1), torch.split(batch.targets, window, 1), strict=True)
            for tokens, targets in parts:
                logits, _ = self._forward(model, TokenBatch(tokens, targets))  # (B, T, V)
                losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=PADDING)
                nats += losses.double().sum(1).cpu()
        targets = batch.targets.cpu()
        assert self.characters is not None
        characters = (self.characters.cpu()[targets.clamp(min=0)] * (targets >= 0)).sum(1)
        numbers = (targets >= 0).sum(1)
        loss = nats / numbers
        return {
            "tokens": numbers.tolist(),
            "loss": loss.tolist(),
            "perplexity": loss.exp().tolist(),
            "bits_per_character": (nats / characters / math.log(2)).tolist(),
        }

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """A short text drawn with the default options, under the tag "sample"; "zipf" for a model that has counted:
        its ``frequencies()``."""
        model = uncompiled(networks["model"])
        picture = zipf(model.frequencies()) if hasattr(model, "frequencies") else None  # type: ignore[operator]
        shown: dict[str, Any] = {} if picture is None else {"zipf": picture}
        if self.vocabulary is None:
            return shown
        options = {**self.sample_defaults, "num_samples": 1}
        options["length"] = min(options["length"], PREVIEW_LENGTH)
        try:
            return {**shown, "sample": "".join(self.sample(model, **options))}
        except NonFiniteError as error:
            return {**shown, "sample": f"({error})"}
