"""A character LSTM that writes, as people write it: torch's nn.LSTM, one token at a time, with carried state."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures, clock
from benchmarks.workloads import built


def generation(folder: str, overrides: list[str], prompt: int, count: int) -> Any:
    """Seconds for one generated token. The sizes are those of dlcli's model."""
    run = built(overrides)
    import torch
    from torch import nn

    sizes, vocabulary = run.config["model"], len(run.data.vocabulary)
    embedding = nn.Embedding(vocabulary, sizes["embedding_size"])
    lstm = nn.LSTM(sizes["embedding_size"], sizes["hidden_size"], sizes["num_layers"], batch_first=True)
    output = nn.Linear(sizes["hidden_size"], vocabulary)
    start = run.data.parts["val"][:prompt].long().unsqueeze(0)

    @torch.no_grad()
    def block() -> Figures:
        began = clock()
        tokens, state = start, None
        for _ in range(count):
            hidden, state = lstm(embedding(tokens), state)
            scores = torch.softmax(output(hidden[:, -1]) / 0.8, -1)
            tokens = torch.multinomial(scores, 1)
            tokens.item()  # the character is printed
        return {"seconds": (clock() - began) / count}

    return block
