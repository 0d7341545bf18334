"""Rows that stand in the configuration."""

import pytest

from dlcli.data.rows import Rows
from dlcli.errors import ConfigError


def test_the_rows_are_every_split_in_their_order():
    data = Rows(batch_size=2, features=[[1, 0.5], [2, 3], [4, 5]], targets=[[1], [0], [2]])
    assert data.spec.defined() == {"input_shape": (2,), "num_outputs": 1, "num_targets": 1}
    batches = data.batches("train", order="sequential")
    assert [batch.features.tolist() for batch in batches] == [[[1, 0.5], [2, 3]], [[4, 5]]]
    assert data.batches("test", order="sequential")[0].targets.tolist() == [[1], [0], [2]]
    assert data.fingerprint != Rows(batch_size=2, features=[[1.0]], targets=[[1.0]]).fingerprint


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        ([[1.0], [1.0, 2.0]], [[1.0], [1.0]], r"data.features: expected rows of one length, found \[1, 2\]"),
        ([[]], [[1.0]], r"data.features: expected rows of one length, found \[0\]"),
        ([[1.0]], [[1.0], [2.0]], "data.targets has 2 rows and data.features 1; give one for each"),
    ],
)
def test_rows_that_do_not_fit_are_refused(features, targets, message):
    with pytest.raises(ConfigError, match=message):
        Rows(batch_size=1, features=features, targets=targets)
