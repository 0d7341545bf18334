import math

import pytest
import torch

from dlcli.functional.attention import attention


def by_hand(query, key, value, mask):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value


@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_formula(causal):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    mask = torch.ones(5, 5, dtype=torch.bool)
    expected = by_hand(query, key, value, mask.tril() if causal else mask)
    torch.testing.assert_close(attention(query, key, value, causal=causal), expected)
    torch.testing.assert_close(attention(query, key, value, mask=mask.tril()), by_hand(query, key, value, mask.tril()))


def test_bfloat16_under_autocast_is_computed_in_float32():
    torch.manual_seed(0)
    parts = [part.bfloat16().requires_grad_() for part in torch.randn(3, 1, 2, 7, 4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(*parts, causal=True)
    expected = attention(*(part.detach().float() for part in parts), causal=True)
    assert torch.equal(found.float(), expected)
    found.sum().backward()
    assert all(part.grad.isfinite().all() for part in parts)
