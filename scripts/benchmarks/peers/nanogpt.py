"""A reference for nanoGPT: its architecture, hyper-parameters, batches, loop and way of sampling, in code of our own.

With ``--reference`` the model, its optimizer and ``generate`` come from a checkout of nanoGPT instead; its loop is a
script that cannot be imported, so the loop is always this one.

Letters of shapes: B sequences, T tokens in each, V tokens in the vocabulary, C hidden units.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Figures, clock
from benchmarks.workloads import built

LEARNING_RATE, LOWEST_RATE, WARM_UP, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 1e-4, 100, 0.1, (0.9, 0.99), 1.0
BATCH_SIZE = 12


@dataclass
class GPTConfig:
    """The sizes, by nanoGPT's names."""

    block_size: int = 64
    vocab_size: int = 65
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = False


class Block(nn.Module):
    """Pre-norm attention and perceptron, fused attention kernel."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        size, bias = config.n_embd, config.bias
        self.heads = config.n_head
        self.norm_1, self.norm_2 = nn.LayerNorm(size, bias=bias), nn.LayerNorm(size, bias=bias)
        self.attention, self.mix = nn.Linear(size, 3 * size, bias=bias), nn.Linear(size, size, bias=bias)
        self.widen, self.narrow = nn.Linear(size, 4 * size, bias=bias), nn.Linear(4 * size, size, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        b, t, c = hidden.shape
        parts = self.attention(self.norm_1(hidden)).split(c, dim=2)
        query, key, value = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.mix(mixed.transpose(1, 2).contiguous().view(b, t, c))
        return hidden + self.narrow(F.gelu(self.widen(self.norm_2(hidden))))


class GPT(nn.Module):
    """GPT-2 without biases, tied embeddings, and the interface of nanoGPT's class."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("mix.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer) if last else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """tokens (B, T) -> logits (B, T, V) and the loss; without targets the last position's logits (B, 1, V)."""
        hidden = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.norm(hidden)
        if targets is None:
            return self.head(hidden[:, [-1], :]), None
        logits = self.head(hidden)
        return logits, F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    def configure_optimizers(self, weight_decay: float, learning_rate: float, betas: Any, device_type: str) -> Any:
        """AdamW that decays matrices only; fused on GPUs."""
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = {"fused": True} if device_type == "cuda" else {}
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, **fused)

    @torch.no_grad()
    def generate(self, tokens: Tensor, count: int, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """Append ``count`` tokens to (B, T), reading the whole context again for each."""
        for _ in range(count):
            logits, _ = self(tokens[:, -self.config.block_size :])
            logits = logits[:, -1, :] / temperature
            if top_k is not None:
                kept, _ = torch.topk(logits, min(top_k, logits.shape[-1]))
                logits[logits < kept[:, [-1]]] = -float("inf")
            tokens = torch.cat((tokens, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
        return tokens


def model_of(reference: str | None, **sizes: Any) -> Any:
    """The reference model; with a checkout, nanoGPT's own."""
    if reference is None:
        return GPT(GPTConfig(**sizes))
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(reference) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    defaults = vars(GPTConfig())
    return module.GPT(module.GPTConfig(**{**defaults, **sizes}))


def write_tokens(run: Any, folder: str) -> Path:
    """The training part as a file of uint16, as nanoGPT prepares it."""
    file = Path(folder) / "train.bin"
    run.data.parts["train"].numpy().astype(np.uint16).tofile(file)
    return file


def get_batch(file: Path, batch_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Windows at random places. The map is opened anew for each batch, as nanoGPT does against a leak of memory."""
    data = np.memmap(file, dtype=np.uint16, mode="r")
    starts = torch.randint(len(data) - length, (batch_size,))
    inputs = torch.stack([torch.from_numpy(data[i : i + length].astype(np.int64)) for i in starts])
    targets = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
    return inputs, targets


def rate(step: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / (WARM_UP + 1)
    share = (step - WARM_UP) / max(1, total - WARM_UP)
    return LOWEST_RATE + 0.5 * (1 + math.cos(math.pi * share)) * (LEARNING_RATE - LOWEST_RATE)


class Training:
    """nanoGPT's loop, cut into single steps."""

    def __init__(self, run: Any, folder: str, total: int, seed: int, reference: str | None):
        torch.manual_seed(seed)
        self.total, self.length, self.step_count = total, run.data.spec.sequence_length, 0
        self.file = write_tokens(run, folder)
        self.model = model_of(reference, block_size=self.length, vocab_size=run.data.spec.vocab_size)
        self.optimizer = self.model.configure_optimizers(WEIGHT_DECAY, LEARNING_RATE, BETAS, "cpu")
        self.batch = get_batch(self.file, BATCH_SIZE, self.length)

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step_count, self.total)
        _, loss = self.model(*self.batch)
        self.batch = get_batch(self.file, BATCH_SIZE, self.length)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        print(f"iter {self.step_count}: loss {loss.item():.4f}")
        self.step_count += 1


@torch.no_grad()
def whole_validation_loss(model: Any, run: Any) -> float:
    """Mean cross-entropy over every token of the validation part, on the very windows that dlcli evaluates on."""
    model.eval()
    batches = run.data.batches("val", order="sequential")
    total, number = 0.0, 0
    for index in range(len(batches)):
        tokens, targets, _ = batches[index]
        _, loss = model(tokens, targets)
        total, number = total + loss.item() * targets.numel(), number + targets.numel()
    model.train()
    return total / number


def steps(folder: str, overrides: list[str], steps: int, reference: str | None) -> Any:
    """Seconds per iteration; nothing is evaluated."""
    run = built(overrides)
    training = Training(run, folder, 2000, 0, reference)

    def block() -> Figures:
        began = clock()
        for _ in range(steps):
            training.step()
        return {"seconds": (clock() - began) / steps}

    return block


def curve(
    folder: str, overrides: list[str], total: int, seed: int, first: int, every: int, reference: str | None
) -> Any:
    """One training; the whole-validation loss by iteration, from iteration ``first`` on."""
    run = built(overrides)

    def block() -> Figures:
        training = Training(run, folder, total, seed, reference)
        found = {}
        for step in range(1, total + 1):
            training.step()
            if step == total or (step >= first and step % every == 0):
                found[str(step)] = whole_validation_loss(training.model, run)
        return found

    return block


def batches(folder: str, overrides: list[str], count: int) -> Any:
    """Seconds for one batch."""
    run = built(overrides)
    file, size, length = write_tokens(run, folder), run.data.batch_size, run.data.spec.sequence_length

    def block() -> Figures:
        began = clock()
        for _ in range(count):
            get_batch(file, size, length)
        return {"seconds": (clock() - began) / count}

    return block


def generation(folder: str, overrides: list[str], prompt: int, count: int, reference: str | None) -> Any:
    """Seconds for one generated token, after a prompt of ``prompt`` tokens."""
    run = built(overrides)
    model = model_of(reference, block_size=run.data.spec.sequence_length, vocab_size=run.data.spec.vocab_size).eval()
    start = run.data.parts["val"][:prompt].long().unsqueeze(0)

    def block() -> Figures:
        began = clock()
        with torch.no_grad():
            model.generate(start, count, temperature=0.8, top_k=200)
        return {"seconds": (clock() - began) / count}

    return block
