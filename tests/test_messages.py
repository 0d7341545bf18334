"""Requests that cannot be carried out are answered in one line, before anything is loaded."""

from __future__ import annotations

import pytest

from dlcli import train
from dlcli.config import compose
from dlcli.errors import ConfigError
from dlcli.sweep_expansion import compose_jobs, expand


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (['lr_factors={"*":3}'], r"write the names in a mapping without quotes, such as \{output\.\*:3\}"),
        (["data=digits", "data.folds=5", "data.fold=5"], r"data.fold=5: with data.folds=5, expected 0 to 4"),
        (["data=mnist", "data.fold=2"], r"data.fold=2: say with data.folds how many parts there are"),
        (
            ["data=digits", "model=naive_bayes", "trainer=fit", "layers=scratch"],
            r"layers=scratch: trainer 'fit' computes no gradient of layers; use layers=torch",
        ),
        (["data=enron_spam", "model=ngram"], r"^model 'ngram' does not go with task 'classification': add task=lang"),
        (["data=digits", "task=gan"], r"with a discriminator, which model 'mlp' does not have; .*: dcgan, gan_mlp$"),
        (
            ["data=cart_pole", "task=gan", "model=gan_mlp"],
            r"data 'cart_pole' does not go with task 'gan': add task=cont",
        ),
        (
            ["data=objective", "task=gan", "model=gan_mlp"],
            r"data 'objective' does not go with .*: add task=minimization",
        ),
        (["data=digits", "model=point"], r"^model 'point' does not go with task 'classification': add task=minimizat"),
        (["data=cart_pole", "trainer=minibatch"], r"^task 'control' does not go with .* 'minibatch': add trainer=dqn$"),
        (
            ["data=frozen_lake", "trainer=minibatch"],
            r"task 'control' does not go .* 'minibatch': add trainer=q_learning",
        ),
        (
            ["data=fashion_mnist", "model=dcgan"],
            r"^model 'dcgan' does not go with task 'classification': add task=gan$",
        ),
        (
            ["data=enron_spam", "trainer=federated_averaging", "trainer.key_bits=100000"],
            r"trainer.key_bits=100000: expected a whole number at least 1024 and at most 8192",
        ),
        (["data=frozen_lake", "layers=scratch"], r"layers=scratch: trainer 'q_learning' computes no gradient"),
    ],
)
def test_refused_when_composed(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(options)


def test_a_fold_that_does_not_exist_is_found_before_a_sweep_starts() -> None:
    with pytest.raises(ConfigError, match=r"data.fold=3: with data.folds=3, expected 0 to 2 \(job 3: data.fold=3\)"):
        compose_jobs(expand(["data=digits", "data.folds=3", "data.fold=range(4)"], []), [])


def test_a_function_of_one_number_has_no_second_coordinate(tmp_path) -> None:
    options = ["data=objective", "data.function=square", "model.start=[10.0]", f"run_dir={tmp_path}"]
    run = train([*options, "trainer.max_steps=1"])
    assert set(run.summary["metrics"]["val"]) == {"loss", "x1"}
    with pytest.raises(
        ConfigError, match=r"trainer.monitor=val/x2: not measured on data 'objective'; measured are loss"
    ):
        train([*options, "trainer.monitor=val/x2"])


@pytest.mark.parametrize(
    ("options", "fitting", "others"),
    [
        (["model=lenet"], ("cifar10", "digits"), ("airfoil", "boston_housing", "cart_pole")),  # of images
        (["task=pretext", "model=simclr"], ("cifar10", "digits"), ("airfoil", "csv")),
        (["task=gan", "model=gan_mlp"], ("airfoil", "cifar10"), ("cart_pole",)),  # of examples
        (["model=autoencoder"], ("airfoil", "cifar10"), ("cart_pole",)),
        (["data=digits", "task=control"], ("cart_pole", "frozen_lake"), ("airfoil",)),
        (["model=mlp"], ("airfoil", "cart_pole", "cifar10"), ()),  # which learns all of these
    ],
)
def test_data_that_are_named_as_fitting_fit(
    options: list[str], fitting: tuple[str, ...], others: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="data that fit: ") as caught:
        compose(options)
    named = [line.partition("data that fit: ")[2].split(", ") for line in caught.value.problems if "that fit" in line]
    for names in named:
        assert set(fitting) <= set(names)
        assert not set(others) & set(names)
