"""Language modelling: the loss by hand, whole-set values, carried state, and sampling."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.check import group_problems
from dlcli.data.base import TokenBatch
from dlcli.errors import ConfigError, NonFiniteError
from dlcli.spec import DataSpec
from dlcli.tasks.language_modeling import PREVIEW_LENGTH, SEPARATOR, LanguageModeling
from dlcli.tasks.token_text import TokenDecoder, characters_per_token

SAMPLE: dict[str, Any] = {
    "prompt": "",
    "length": 30,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "num_samples": 1,
    "seed": 0,
}
LETTERS = list("\n abcde")


class FakeVocabulary:
    """What the tasks use of a vocabulary."""

    def __init__(self, tokens: list[str], kind: Literal["char", "word", "byte"] = "char"):
        self.tokens = tokens
        self.kind = kind

    def encode(self, text: str) -> list[int]:
        if self.kind == "byte":
            return list(text.encode())
        parts = text.split() if self.kind == "word" else list(text)
        unknown = [part for part in parts if part not in self.tokens]
        if unknown:
            raise ConfigError(f"the vocabulary lacks {unknown[0]!r}")
        return [self.tokens.index(part) for part in parts]

    def decode(self, ids: list[int]) -> str:
        if self.kind == "byte":
            return bytes(ids).decode(errors="replace")
        if self.kind == "word":  # a space before each word, none before a full stop
            return "".join(self.tokens[i] if self.tokens[i] == "." else " " + self.tokens[i] for i in ids)
        return "".join(self.tokens[i] for i in ids)

    def __len__(self) -> int:
        return len(self.tokens)


BYTES = FakeVocabulary([chr(i) for i in range(256)], "byte")


class PlainModel(nn.Module):
    """forward(tokens) only, with dropout to see whether sampling is in evaluation mode."""

    def __init__(self, vocab_size: int = len(LETTERS)):
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab_size, vocab_size))
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.table[tokens])


class RecurrentModel(nn.Module):
    recurrent = True

    def __init__(self, vocab_size: int = len(LETTERS)):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.rnn = nn.GRU(4, 4, batch_first=True)
        self.output = nn.Linear(4, vocab_size)

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        return (torch.zeros(1, batch_size, 4),)

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...] | None = None) -> Any:
        hidden, after = self.rnn(self.embedding(tokens), state[0] if state else None)
        logits = self.output(hidden)
        return logits if state is None else (logits, (after,))


class Script(nn.Module):
    """Always predicts the token that follows in a fixed order of ids."""

    def __init__(self, ids: list[int], vocab_size: int):
        super().__init__()
        self.ids, self.vocab_size = ids, vocab_size

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        return (torch.zeros(1, dtype=torch.int64),)

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...]) -> Any:
        (position,) = state
        target = torch.tensor(self.ids[int(position)]).expand(tokens.shape)
        return F.one_hot(target, self.vocab_size).double() * 50, (position + 1,)


def make_task(vocabulary: Any = None, *, carry_state: bool = True, vocab_size: int = 7, **sample: Any) -> Any:
    task = LanguageModeling(carry_state=carry_state, sample={**SAMPLE, **sample})
    task.bind(DataSpec(vocab_size=len(vocabulary) if vocabulary else vocab_size), vocabulary, None)
    return task


@pytest.fixture
def task() -> Any:
    return make_task(FakeVocabulary(LETTERS))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def random_batch(batch_size: int, length: int, vocab_size: int = len(LETTERS)) -> TokenBatch:
    return TokenBatch(*torch.randint(vocab_size, (2, batch_size, length)))


def evaluate(task: Any, model: nn.Module, batches: list[TokenBatch]) -> dict[str, float]:
    metrics, carry = task.metrics(), None
    with torch.no_grad():
        for batch in batches:
            carry = task.evaluation_step({"model": model}, batch._replace(carry=carry), metrics)
    return {name: metric.compute() for name, metric in metrics.items()}


# Losses and metrics


def test_the_loss_is_the_mean_of_minus_log_probability(task: Any) -> None:
    batch, model = random_batch(3, 5), PlainModel().eval()
    (loss,) = task.training_step({"model": model}, batch)
    table = model.table.detach()
    probabilities = table.exp() / table.exp().sum(1, keepdim=True)
    by_hand = [
        -math.log(probabilities[token, target])
        for token, target in zip(batch.tokens.flatten(), batch.targets.flatten(), strict=True)
    ]
    assert loss.value.item() == pytest.approx(sum(by_hand) / 15, rel=1e-5)
    assert loss.network == "model"
    assert loss.carry is None


def test_a_uniform_model_has_the_perplexity_of_the_vocabulary(task: Any) -> None:
    model = PlainModel()
    nn.init.zeros_(model.table)
    found = evaluate(task, model.eval(), [random_batch(2, 9), random_batch(1, 4)])
    assert found["loss"] == pytest.approx(math.log(7))
    assert found["perplexity"] == pytest.approx(7)
    assert found["bits_per_character"] == pytest.approx(math.log2(7))


def test_unequal_batches_give_the_value_of_the_whole(task: Any) -> None:
    model = PlainModel().eval()
    whole = random_batch(1, 40)
    sizes = [25, 12, 3]
    parts = [
        TokenBatch(*pair) for pair in zip(whole.tokens.split(sizes, 1), whole.targets.split(sizes, 1), strict=True)
    ]
    together, apart = evaluate(task, model, [whole]), evaluate(task, model, parts)
    assert set(together) == set(LanguageModeling.metric_directions)
    assert together == pytest.approx(apart, rel=1e-6)
    expected = float((model.table[whole.tokens].argmax(-1) == whole.targets).double().mean())
    assert together["accuracy"] == pytest.approx(expected)


def test_bits_per_character_of_words_count_letters_and_a_space() -> None:
    task = make_task(FakeVocabulary([".", "four", "fives"], "word"))
    model = PlainModel(3)
    nn.init.zeros_(model.table)
    targets = torch.tensor([[0, 1], [2, 2]])  # 1 + 5 + 6 + 6 = 18 characters
    found = evaluate(task, model.eval(), [TokenBatch(targets, targets)])
    assert found["bits_per_character"] == pytest.approx(4 * math.log2(3) / 18)


def test_bits_per_character_of_bytes_count_characters_not_bytes() -> None:
    text = "aé€😀"  # 1, 2, 3 and 4 bytes
    counts = characters_per_token(BYTES)
    assert int(counts[torch.tensor(BYTES.encode(text))].sum()) == 4


def test_without_a_vocabulary_a_token_is_a_character() -> None:
    task = make_task(vocab_size=7)
    found = evaluate(task, PlainModel().eval(), [random_batch(2, 9)])
    assert found["bits_per_character"] == pytest.approx(found["loss"] / math.log(2))
    assert task.preview({"model": PlainModel()}, None) == {}
    with pytest.raises(ConfigError, match="cannot sample: the data have no vocabulary"):
        task.sample(PlainModel(), **SAMPLE)


def test_half_precision_logits_give_a_float32_loss(task: Any) -> None:
    (loss,) = task.training_step({"model": PlainModel().bfloat16()}, random_batch(2, 3))
    assert loss.value.dtype == torch.float32


def test_logits_of_another_vocabulary_are_refused(task: Any) -> None:
    message = (
        r"returns outputs of shape \(2, 3, 5\); task 'language_modeling' needs a tensor of shape \(2, 3, 7\): "
        r"\(batch, tokens, vocabulary\)"
    )
    with pytest.raises(ConfigError, match=message):
        next(task.training_step({"model": PlainModel(5)}, random_batch(2, 3, vocab_size=5)))


def test_a_model_that_returns_no_tensor_is_refused(task: Any) -> None:
    with pytest.raises(ConfigError, match="the model returns a tuple; task 'language_modeling' needs a tensor"):
        next(task.training_step({"model": lambda tokens: (tokens, tokens)}, random_batch(2, 3)))


# Carried state


def test_state_goes_from_window_to_window_without_gradient(task: Any) -> None:
    model, whole = RecurrentModel(), random_batch(3, 8)
    (expected,) = task.training_step({"model": model}, whole)
    first = TokenBatch(whole.tokens[:, :5], whole.targets[:, :5])
    (one,) = task.training_step({"model": model}, first)
    assert not one.carry[0].requires_grad
    (two,) = task.training_step({"model": model}, TokenBatch(whole.tokens[:, 5:], whole.targets[:, 5:], one.carry))
    torch.testing.assert_close((5 * one.value + 3 * two.value) / 8, expected.value)
    torch.testing.assert_close(two.carry[0], expected.carry[0])


def test_evaluation_of_a_stream_in_windows_equals_one_window(task: Any) -> None:
    model, whole = RecurrentModel(), random_batch(1, 30)
    parts = [TokenBatch(*pair) for pair in zip(whole.tokens.split(11, 1), whole.targets.split(11, 1), strict=True)]
    assert evaluate(task, model, parts) == pytest.approx(evaluate(task, model, [whole]), rel=1e-5)


def test_state_is_carried_only_by_recurrent_models_and_if_wanted(task: Any) -> None:
    fresh = make_task(carry_state=False)
    assert task.carries_state(RecurrentModel())
    assert not task.carries_state(PlainModel())
    assert not fresh.carries_state(RecurrentModel())
    (loss,) = fresh.training_step({"model": RecurrentModel()}, random_batch(2, 3))
    assert loss.carry is None
    assert fresh.evaluation_step({"model": RecurrentModel()}, random_batch(2, 3), fresh.metrics()) is None


def test_a_wrapper_that_passes_attributes_on_carries_state_too(task: Any) -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self._orig_mod = inner

        def __getattr__(self, name: str) -> Any:
            return super().__getattr__(name) if name == "_modules" else getattr(self._modules["_orig_mod"], name)

        def forward(self, *arguments: Any) -> Any:
            return self._modules["_orig_mod"](*arguments)

    (loss,) = task.training_step({"model": Wrapper(RecurrentModel())}, random_batch(2, 3))
    assert loss.carry[0].shape == (1, 2, 4)


# Sampling


def text_of(task: Any, model: nn.Module, **options: Any) -> str:
    return "".join(task.sample(model, **{**SAMPLE, **options}))


def test_a_sample_is_the_prompt_and_length_more_tokens(task: Any) -> None:
    text = text_of(task, PlainModel(), prompt="abba", length=40)
    assert text.startswith("abba")
    assert len(text) == 44
    assert set(text) <= set(LETTERS)


def test_characters_come_a_few_at_a_time(task: Any) -> None:
    stream = task.sample(PlainModel(), **{**SAMPLE, "prompt": "ab", "length": 9})
    assert next(stream) == "ab"
    assert [len(piece) for piece in stream] == [1, 2, 4, 2]


@pytest.mark.parametrize("model_class", [PlainModel, RecurrentModel])
def test_a_text_depends_on_the_seed_and_its_number_only(task: Any, model_class: Any) -> None:
    model = model_class()
    texts = {n: list(task.sample(model, **{**SAMPLE, "num_samples": n, "length": 60})) for n in (1, 2, 5)}
    assert "".join(texts[1]) == texts[2][0] == texts[5][0]
    assert texts[2][2] == texts[5][2]


def test_the_seed_decides_the_text(task: Any) -> None:
    model = PlainModel()
    assert text_of(task, model) == text_of(task, model)
    assert text_of(task, model, seed=1) != text_of(task, model)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}])
def test_greedy_takes_the_likeliest_whatever_the_seed(task: Any, options: dict[str, Any]) -> None:
    model = PlainModel()
    token, expected = 0, ""
    for _ in range(30):
        token = int(model.table[token].argmax())
        expected += LETTERS[token]
    assert text_of(task, model, **options, seed=5) == expected


def test_several_samples_are_separated_and_differ(task: Any) -> None:
    pieces = list(task.sample(PlainModel(), **{**SAMPLE, "prompt": "a", "num_samples": 3}))
    assert pieces[1] == pieces[3] == SEPARATOR
    texts = pieces[::2]
    assert [len(text) for text in texts] == [31, 31, 31]
    assert len(set(texts)) == 3
    assert all(text.startswith("a") for text in texts)


def test_several_samples_of_a_recurrent_model_are_one_batch(task: Any) -> None:
    pieces = list(task.sample(RecurrentModel(), **{**SAMPLE, "num_samples": 4, "temperature": 0.0}))
    assert len(pieces) == 7
    assert len(set(pieces[::2])) == 1


def test_sampling_leaves_mode_gradients_and_the_global_random_state_alone(task: Any) -> None:
    model = PlainModel().train()
    before = torch.get_rng_state()
    stream = task.sample(model, **SAMPLE)
    next(stream)
    assert not model.training
    assert torch.is_grad_enabled()
    stream.close()  # the consumer stops early
    assert model.training
    assert model.dropout.training
    text_of(task, model, num_samples=2)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_prompt_that_cannot_be_written_is_refused_at_once(task: Any) -> None:
    with pytest.raises(ConfigError, match="lacks 'z'"):
        task.sample(PlainModel(), **{**SAMPLE, "prompt": "abz"})
    with pytest.raises(ConfigError, match="lacks 'q'"):
        make_task(FakeVocabulary(LETTERS), prompt="q")


@pytest.mark.parametrize(("tokens", "start"), [(list("a.\n "), 2), (list(".b "), 2), (list("a."), 1), (list("ab"), 0)])
def test_an_empty_prompt_starts_after_a_line_break_or_a_space_or_a_sentence(tokens: list[str], start: int) -> None:
    task, model = make_task(FakeVocabulary(tokens)), PlainModel(len(tokens))
    assert text_of(task, model, length=1, temperature=0.0) == tokens[int(model.table[start].argmax())]


def test_words_are_separated_as_the_vocabulary_does() -> None:
    task = make_task(FakeVocabulary(["the", "cat", "sat", "."], "word"))
    assert text_of(task, Script([1, 2, 3, 0], 4), prompt="the", length=4) == "the cat sat. the"
    assert text_of(task, Script([0, 1], 4), length=2) == "the cat"


def test_characters_of_several_bytes_appear_whole() -> None:
    text = "é€😀"
    pieces = list(make_task(BYTES).sample(Script(list(text.encode()), 256), **{**SAMPLE, "length": 9}))
    assert "".join(pieces) == text
    assert pieces[0] == "é"  # after a first chunk that ends within it


def test_an_incomplete_character_at_the_end_is_marked() -> None:
    text = text_of(make_task(BYTES), Script([97, 0xE2, 0x82], 256), length=3, prompt="é")
    assert text == "éa�"
    assert TokenDecoder(BYTES, []).finish() == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_stop_the_sample(task: Any, value: float) -> None:
    model = PlainModel().train()
    nn.init.constant_(model.table, value)
    with pytest.raises(NonFiniteError, match="outputs are not finite"):
        text_of(task, model)
    assert model.training
    assert "not finite" in task.preview({"model": model}, None)["sample"]


def test_the_preview_is_a_short_sample_and_changes_nothing(task: Any) -> None:
    model, batch = PlainModel().train(), random_batch(2, 3)
    before = torch.get_rng_state()
    long = make_task(FakeVocabulary(LETTERS), length=5000, num_samples=3)
    preview = long.preview({"model": model}, batch)
    assert preview == {"sample": text_of(task, model, length=PREVIEW_LENGTH)}
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


# Options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lenght": 5}, "unknown option 'task.sample.lenght' of sampling; did you mean length?"),
        ({"length": 0}, "task.sample.length=0: expected a whole number at least 1"),
        ({"prompt": None}, "task.sample.prompt=null: expected text"),
        ({"temperature": -1.0}, "task.sample.temperature=-1.0: expected a number at least 0"),
        ({"top_p": 1.5}, "task.sample.top_p=1.5: expected a number greater than 0 and at most 1 or null"),
    ],
)
def test_unsuitable_defaults_of_the_sample_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {"name": "language_modeling", "carry_state": True, "sample": {**SAMPLE, **changes}}
    assert group_problems("task", values) == [message]


def test_all_problems_of_the_sample_are_reported_together() -> None:
    values = {"name": "language_modeling", "carry_state": True, "sample": {"length": "long", "seed": -1}}
    assert len(group_problems("task", values)) == 2 + len(SAMPLE) - 2
