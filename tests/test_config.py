"""Composition: what wins over what, and everything that can be wrong with a configuration, by its message."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlcli.config import change_group_values, change_values, compose
from dlcli.errors import ConfigError
from dlcli.overrides import parse_values


def problems(*overrides: str, directories: tuple[Path, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, directories)
    return caught.value.problems


def test_data_suggests_task_model_optimizer_and_schedule() -> None:
    choices = compose(["data=shakespeare"]).choices
    assert (choices["task"], choices["model"], choices["scheduler"]) == ("language_modeling", "lstm", "one_cycle")
    assert compose(["data=boston_housing"]).choices["task"] == "regression"


def test_what_the_user_names_wins_over_what_the_data_suggest() -> None:
    composed = compose(["data=shakespeare", "model=gru", "optimizer=sgd", "scheduler=constant"])
    assert composed.config["model"]["name"] == "gru"
    assert composed.config["optimizer"]["name"] == "sgd"
    assert composed.config["scheduler"]["name"] == "constant"


@pytest.mark.parametrize(
    ("overrides", "optimizer"),
    [
        (["data=shakespeare"], "adam_text"),
        (["data=shakespeare", "model=lstm"], "adam_text"),
        (["data=shakespeare", "model=gpt"], "adamw"),  # the data's suggestion is made for the data's model
        (["model=gpt_nano", "data=text", "data.path=book.txt"], "adamw"),
        (["model=gpt", "optimizer.lr=1e-2"], "adamw"),
        (["model=gpt", "optimizer=sgd"], "sgd"),
        (["experiment=shakespeare_lstm_best", "model=gpt"], "adam_text"),
    ],
)
def test_a_model_that_somebody_names_suggests_what_nobody_names(overrides: list[str], optimizer: str) -> None:
    composed = compose(overrides)
    assert composed.choices["optimizer"] == optimizer
    assert composed.choices["scheduler"] == "one_cycle"


def test_the_order_of_overrides_does_not_matter() -> None:
    assert compose(["model=gru", "data=shakespeare"]).config == compose(["data=shakespeare", "model=gru"]).config


def test_an_experiment_fixes_all_and_the_user_still_wins() -> None:
    composed = compose(["experiment=nanogpt_cpu"])
    assert composed.config["data"]["batch_size"] == 12
    assert composed.choices["model"] == "gpt_nano"
    changed = compose(["experiment=nanogpt_cpu", "data.batch_size=8", "model=lstm"])
    assert changed.config["data"]["batch_size"] == 8
    assert changed.config["model"]["name"] == "lstm"


def test_values_keep_their_types() -> None:
    config = compose(["optimizer.lr=1e-4", "seed=3", "trainer.max_steps=7"]).config
    assert config["optimizer"]["lr"] == 1e-4
    assert isinstance(config["optimizer"]["lr"], float)
    assert (config["seed"], config["trainer"]["max_steps"]) == (3, 7)


def test_files_are_listed_in_the_order_of_composition() -> None:
    names = [f"{file.parent.name}/{file.name}" for file in compose(["data=shakespeare"], list_files=True).files]
    assert names[0] == "configs/config.yaml"
    assert names.index("model/lstm.yaml") < names.index("data/shakespeare.yaml")


def test_an_own_folder_comes_before_ours(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# Mine\nname: mlp\n" + "".join(_lines("mlp")))
    assert compose(["data=digits", "model=mine"], [tmp_path]).config["model"]["name"] == "mlp"


def _lines(model: str) -> list[str]:
    from dlcli.catalogue import entries

    return [
        f"{key}: {value if value is not None else 'null'}\n"
        for key, value in entries("model")[model].content().items()
        if key != "name"
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle=lstm", "unknown option 'modle'; did you mean model?"),
        ("model=lsmt", "no model 'lsmt'; did you mean lstm?"),
        ("model=zzzzzz", "no model 'zzzzzz'; known: .+, "),
        ("model.hiden_size=3", "unknown option 'model.hiden_size' of model 'lstm'; did you mean model.hidden_size?"),
        ("lr=0.1", "unknown option 'lr'; did you mean optimizer.lr?"),
        ("model.lr=0.1", "unknown option 'model.lr' of model 'lstm'; did you mean optimizer.lr?"),
        ("+model.x=1", "unknown option 'model.x' of model 'lstm'"),
        ("model.vocab_size=3", "model.vocab_size cannot be set: the data decide it"),
        ("model.hidden_size=big", "model.hidden_size=big: expected a whole number at least 1"),
        ("model.hidden_size=0", "model.hidden_size=0: expected a whole number at least 1"),
        ("model.dropout=1.5", "model.dropout=1.5: expected a number at least 0 and less than 1"),
        ("optimizer.lr=null", "optimizer.lr=null: expected a number greater than 0"),
        ("seed=-1", "seed=-1: expected a whole number"),
        ("trainer.precision=fp8", "trainer.precision=fp8: expected one of fp32"),
        ("trainer.eval_every=sometimes", "trainer.eval_every=sometimes: expected a number of steps"),
        (
            "trainer.monitor=val/acuracy",
            "trainer.monitor=val/acuracy: task 'language_modeling' does not measure it; did you mean val/accuracy",
        ),
        ("trainer.monitor=dev/loss", "does not measure it"),
        ("model=[lstm,gru]", "model=.*: expected the name of one model"),
        ("model=null", "model=null: expected the name of one model"),
        ("data=null", "data=null: expected the name of one data"),
        ("~scheduler", "'~scheduler': an option cannot be deleted"),
        ("model=lstm,gru", "names several values"),
        ("seed=1,2", "names several values"),
        ("nonsense", "cannot read 'nonsense'; expected key=value"),
        ("", "cannot read ''; expected key=value"),
        ("hydra.run.dir=/tmp/x", "Hydra's own settings cannot be changed"),
        ("model@other=lstm", "a package cannot be chosen"),
        ("init_from=${oc.env:HOME}", "resolvers are not allowed"),
        ("+model._target_=os.system", "model._target_ is not allowed"),
        ("task._target_=os.system", "task._target_ is not allowed"),
        ("run_dir=", "run_dir=: expected text"),
        ("trainer.max_steps=null", "the run would never end: set trainer.max_steps"),
        ("optimizer.betas=[0.9]", r"optimizer.betas=\[0.9\]: expected a list of 2: "),
        ("layers=fast", "layers=fast: expected one of torch, scratch"),
        ("experiment=nanogpt", "no experiment 'nanogpt'"),
    ],
)
def test_a_wrong_override_gets_one_clear_line(override: str, message: str) -> None:
    found = problems("data=shakespeare", override)
    assert len(found) == 1, found
    assert re.search(message, found[0]), found[0]
    assert "\n" not in found[0]


def test_all_problems_are_reported_together() -> None:
    found = problems("data=shakespeare", "model.hiden_size=3", "optimizer.lr=fast", "scheduler=one_cicle", "sed=1")
    assert len(found) == 4
    assert sum("did you mean" in line for line in found) >= 3


def test_a_model_of_another_task_names_it() -> None:
    message = "model 'autoencoder' does not go with task 'classification': add task=reconstruction"
    assert problems("data=digits", "model=autoencoder") == [message]


def test_a_model_that_does_not_fit_names_data_that_fit() -> None:
    (line,) = problems("model=lstm", "data=mnist")
    assert line.startswith("model 'lstm' needs vocab_size, which data 'mnist' does not define (it defines input_shape")
    assert "data that fit:" in line
    assert "shakespeare" in line.partition("data that fit:")[2]


def test_a_task_that_does_not_fit_is_refused() -> None:
    found = problems("data=digits", "task=regression")
    assert any("task 'regression' needs num_targets, which data 'digits' does not define" in line for line in found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["trainer.max_steps=null", "trainer.max_minutes=1"],
            "scheduler 'one_cycle' spreads over the run: set trainer.max_steps or max_epochs",
        ),
        (
            ["trainer.eval_every=null", "trainer.patience=3"],
            "trainer.patience=3 counts evaluations: set trainer.eval_every",
        ),
        (
            ["trainer.eval_every=null", "scheduler=reduce_on_plateau"],
            "scheduler 'reduce_on_plateau' listens to evaluations: set trainer.eval_every",
        ),
    ],
)
def test_options_that_wait_for_what_never_happens_are_refused(overrides: list[str], message: str) -> None:
    assert problems("data=shakespeare", *overrides) == [message]


def test_a_stray_config_yaml_in_an_own_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert "would replace dlcli's own defaults" in problems(directories=(tmp_path,))[0]


def test_a_missing_own_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder of configurations" in problems(directories=(tmp_path / "nowhere",))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mlp\nname: lstm\n", "mine.yaml:2: the key 'name' appears twice"),
        ("name: [unclosed\n", "mine.yaml:"),
        ("just text\n", "expected keys and values"),
        ("!!python/object:os.system\n", "mine.yaml:1"),
    ],
)
def test_a_bad_yaml_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(text)
    assert message in problems("model=mine", directories=(tmp_path,))[0]


def test_checking_imports_neither_torch_nor_tensorboard() -> None:
    code = (
        "import sys\nfrom dlcli.config import compose\nfrom dlcli.errors import ConfigError\n"
        "compose(['data=shakespeare'])\n"
        "try: compose(['model.hiden=3'])\nexcept ConfigError: pass\n"
        "print([m for m in ('torch', 'torchvision', 'tensorboard') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert result.stdout.strip() == "[]"


def test_change_values_allows_only_what_it_is_told() -> None:
    config = {"trainer": {"max_steps": 10}, "seed": 0}
    assert change_values(config, ["trainer.max_steps=20"], {"trainer.max_steps"})["trainer"]["max_steps"] == 20
    assert config["trainer"]["max_steps"] == 10
    with pytest.raises(
        ConfigError, match=r"model.hidden_size cannot change when a run is resumed; only trainer.max_steps"
    ):
        change_values(config, ["model.hidden_size=3"], {"trainer.max_steps"})


def test_change_group_values_recomposes_only_the_named_group() -> None:
    config = compose(["data=shakespeare"]).config
    changed, choices = change_group_values(config, ["data=time_machine", "data.batch_size=4"], [])
    assert choices == {"data": "time_machine"}
    assert changed["data"]["name"] == "time_machine"
    assert changed["data"]["batch_size"] == 4
    assert changed["model"] == config["model"]
    with pytest.raises(ConfigError, match="no data 'time_machin'; did you mean time_machine"):
        change_group_values(config, ["data=time_machin"], [])


def test_parse_values_takes_free_text_as_it_stands() -> None:
    assert parse_values(["prompt=O, Romeo=1", "length=5"], ("prompt",)) == {"prompt": "O, Romeo=1", "length": 5}
    with pytest.raises(ConfigError, match="cannot read 'lenght'"):
        parse_values(["lenght"])
