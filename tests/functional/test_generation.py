"""The reader gives the same logits whatever a model offers, and never reads past a context."""

import pytest
import torch
from torch import Tensor, nn

from dlcli.errors import NonFiniteError
from dlcli.functional.generation import MAX_CHUNK, TokenReader, generate

VOCABULARY = 5


class Plain(nn.Module):
    """Logits that depend on every token and on its place: a plain user's model, forward(tokens) only."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, VOCABULARY)
        self.read: list[int] = []  # tokens in each call

    def forward(self, tokens: Tensor) -> Tensor:
        self.read.append(tokens.shape[1])
        return (self.embedding(tokens) * torch.arange(1, tokens.shape[1] + 1)[None, :, None]).cumsum(1)


class Limited(Plain):
    context = 6


class Cached(Limited):
    """The same function with a cache: the running sum and the number of tokens in it."""

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        return torch.zeros(batch_size, 1, VOCABULARY), torch.zeros(1)

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...] | None = None):  # type: ignore[override]
        if state is None:
            return super().forward(tokens)
        self.read.append(tokens.shape[1])
        total, count = state
        places = torch.arange(1, tokens.shape[1] + 1) + count
        if places[-1] > self.context:
            raise ValueError("past the context")
        sums = total + (self.embedding(tokens) * places[None, :, None]).cumsum(1)
        return sums, (sums[:, -1:], count + tokens.shape[1])


class Recurrent(Cached):
    context = None  # type: ignore[assignment]
    recurrent = True

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...] | None = None):  # type: ignore[override]
        assert state is not None
        self.read.append(tokens.shape[1])
        total, count = state
        places = torch.arange(1, tokens.shape[1] + 1) + count
        sums = total + (self.embedding(tokens) * places[None, :, None]).cumsum(1)
        return sums, (sums[:, -1:], count + tokens.shape[1])


@torch.no_grad()
def logits_of(reader: TokenReader, tokens: Tensor, prompt: int) -> list[Tensor]:
    """Feed the first ``prompt`` tokens at once and the rest one by one."""
    return [
        reader.feed(tokens[:, :prompt]),
        *[reader.feed(tokens[:, i : i + 1]) for i in range(prompt, len(tokens[0]))],
    ]


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (3, 15), generator=torch.Generator().manual_seed(0))


def test_a_plain_model_reads_everything_again(tokens: Tensor) -> None:
    model = Plain()
    found = logits_of(TokenReader(model, 3), tokens, prompt=4)
    assert model.read == list(range(4, 16))
    for i, logits in enumerate(found):
        torch.testing.assert_close(logits, model(tokens[:, : 4 + i])[:, -1].detach())


def test_a_plain_model_with_a_context_reads_its_last_tokens(tokens: Tensor) -> None:
    model = Limited()
    found = logits_of(TokenReader(model, 3), tokens, prompt=4)
    assert model.read == [4, 5, *[6] * 10]
    torch.testing.assert_close(found[-1], model(tokens[:, -6:])[:, -1].detach())


def test_a_cache_reads_each_token_once_and_starts_again_from_the_last_half(tokens: Tensor) -> None:
    model = Cached()
    found = logits_of(TokenReader(model, 3), tokens, prompt=4)
    #                     4 5 6 | full: 3, 4, 5, 6 | again, and again
    assert model.read == [4, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1, 3]
    starts = [0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12]
    for i, (start, logits) in enumerate(zip(starts, found, strict=True)):
        torch.testing.assert_close(logits, model(tokens[:, start : 4 + i])[:, -1].detach())


def test_a_prompt_longer_than_the_context_is_cut_to_its_last_half(tokens: Tensor) -> None:
    model = Cached()
    logits = TokenReader(model, 3).feed(tokens)
    torch.testing.assert_close(logits, model(tokens[:, -3:])[:, -1].detach())


def test_a_prompt_that_just_fills_the_context_is_read_whole(tokens: Tensor) -> None:
    model = Cached()
    TokenReader(model, 3).feed(tokens[:, :6])
    assert model.read == [6]


def test_a_context_of_one_token_works(tokens: Tensor) -> None:
    model = Cached()
    model.context = 1
    logits_of(TokenReader(model, 3), tokens, prompt=1)
    assert model.read == [1] * 15


def test_a_recurrent_model_reads_each_token_once_without_limit(tokens: Tensor) -> None:
    model = Recurrent()
    found = logits_of(TokenReader(model, 3), tokens, prompt=7)
    assert model.read == [7, *[1] * 8]
    assert found[-1].shape == (3, VOCABULARY)


class Stepping(Cached):
    """The cached model with a function for single tokens."""

    def token_step(self, state: tuple[Tensor, ...]):  # type: ignore[no-untyped-def]
        def step(tokens: Tensor) -> Tensor:
            nonlocal state
            logits, state = self(tokens[:, None], state)
            return logits[:, 0]

        return step


def test_single_tokens_go_through_the_models_step(tokens: Tensor) -> None:
    plain, stepping = Cached(), Stepping()
    stepping.load_state_dict(plain.state_dict())
    expected = logits_of(TokenReader(plain, 3), tokens, prompt=4)
    found = logits_of(TokenReader(stepping, 3), tokens, prompt=4)
    assert stepping.read == plain.read
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_several_tokens_after_single_ones_are_read_one_by_one(tokens: Tensor) -> None:
    model = Stepping()
    reader = TokenReader(model, 3)
    for piece in tokens[:, :6].split([2, 1, 3], 1):
        logits = reader.feed(piece)
    torch.testing.assert_close(logits, model(tokens[:, :6])[:, -1].detach())


# Generation


def generated(model: nn.Module, length: int, seeds: tuple[int, ...] = (0,), temperature: float = 1.0) -> list[Tensor]:
    """The chunks of generated tokens, each (B, N)."""
    chunks = generate(
        *(model, torch.zeros(len(seeds), 2, dtype=torch.int64), length),
        temperature=temperature,
        top_k=None,
        top_p=None,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return [torch.tensor(chunk) for chunk in chunks]


def test_chunks_grow_and_add_up_to_the_length() -> None:
    assert [chunk.shape[1] for chunk in generated(Plain(), 10)] == [1, 2, 4, 3]
    sizes = [chunk.shape[1] for chunk in generated(Recurrent(), 200)]
    assert sum(sizes) == 200
    assert max(sizes) == MAX_CHUNK


def test_a_longer_text_begins_with_the_shorter_one() -> None:
    model = Recurrent()
    torch.nn.init.zeros_(model.embedding.weight)
    short, long = (torch.cat(generated(model, length), 1) for length in (9, 50))
    assert torch.equal(long[:, :9], short)


def test_each_sample_is_that_of_its_own_generator() -> None:
    model = Recurrent()
    torch.nn.init.zeros_(model.embedding.weight)  # every token as likely as any other, always
    together = torch.cat(generated(model, 40, seeds=(5, 6, 7)), 1)
    for row, seed in enumerate((5, 6, 7)):
        assert torch.equal(together[row : row + 1], torch.cat(generated(model, 40, seeds=(seed,)), 1))
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_greedy_tokens_are_the_likeliest_after_all_before_them() -> None:
    torch.manual_seed(0)
    model = Plain()
    tokens = torch.cat([torch.zeros(1, 2, dtype=torch.int64), *generated(model, 12, temperature=0.0)], 1)
    logits = model(tokens)  # (1, 14, V)
    assert torch.equal(tokens[:, 2:], logits[:, 1:-1].argmax(-1))


@pytest.mark.parametrize("temperature", [1e300, 1e-300])
def test_extreme_temperatures_are_no_error(temperature: float) -> None:
    assert sum(chunk.shape[1] for chunk in generated(Recurrent(), 20, temperature=temperature)) == 20


def test_tokens_drawn_from_outputs_that_are_not_finite_are_not_yielded() -> None:
    class Breaking(Plain):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens) * (float("nan") if tokens.shape[1] > 6 else 1.0)

    chunks = generate(
        *(Breaking(), torch.zeros(1, 2, dtype=torch.int64), 30),
        temperature=1.0,
        top_k=None,
        top_p=None,
        generators=[torch.Generator()],
    )
    assert [len(next(chunks)[0]), len(next(chunks)[0])] == [1, 2]
    with pytest.raises(NonFiniteError, match="outputs are not finite; take an earlier checkpoint"):
        next(chunks)
