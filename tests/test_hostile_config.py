"""Configuration from strangers: bombs, tags, keys that could call something, and fuzzed overrides. Rows S2, S5, F1."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcli.catalogue import load_yaml
from dlcli.config import change_group_values, change_values, compose
from dlcli.errors import ConfigError, listing, shown

# ------------------------------------------------------------------ files (S5)

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "alias bomb": (BOMB, r":5: more than 5,000 values, aliases included"),
    "deep list": ("x: " + "[" * 5000 + "]" * 5000, ":2: nested more than 100 levels deep"),
    "deep mapping": ("x: " + "{a: " * 5000 + "1" + "}" * 5000, ":2: nested more than 100 levels deep"),
    "deep block": ("".join(" " * depth + "a:\n" for depth in range(1000)), ":102: nested more than 100"),
    "deep, never closed": ("x: " + "[" * 900_000, ":2: nested more than 100 levels deep"),
    "list within itself": ("x: &x [*x]", r":2: the alias \*x stands for itself"),
    "mapping within itself": ("x: &x {y: *x}", r":2: the alias \*x stands for itself"),
    "merged with itself": ("x: &x {a: 1, <<: *x}", r":2: the alias \*x stands for itself"),
    "many values": ("x: [" + "1," * 400_000 + "]", ":2: more than 5,000 values"),
    "large": ("# x\n" * 300_000, ": over 1,000,000 bytes; a configuration file is smaller"),
    "object": ("x: !!python/object/apply:os.system [ls]", ":2: could not determine a constructor for the tag"),
    "name": ("x: !!python/name:os.system", ":2: could not determine a constructor for the tag"),
    "own tag": ("x: !evil y", ":2: could not determine a constructor for the tag '!evil'"),
    "same key twice": ("name: lstm", ":2: the key 'name' appears twice"),
    "same key twice inside": ("x:\n  a: 1\n  a: 2", ":4: the key 'a' appears twice"),
    "a list as key": ("? [1, 2]\n: 3", ":2: a key is no plain name"),
    "null as key": ("~: 3", "Incompatible key type 'NoneType'"),
    "set": ("x: !!set {a}", "'set' is not a supported primitive type"),
    "NUL": ("x: a\0b", "not valid YAML"),
    "two documents": ("---\nname: lstm", "found another document"),
    "another's defaults": ("defaults: [mine]", "a defaults list leads back to its own file"),
    "outside": ("defaults: [../../../../etc/passwd]", "In 'model/mine': Could not load"),
    "search path": ("hydra: {searchpath: ['file:///tmp']}", "unknown option 'model.hydra'"),
}


def own(folder: Path, text: str | bytes) -> list[str]:
    """The problems of a model whose own file says this."""
    (folder / "model").mkdir(exist_ok=True)
    file = folder / "model" / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        compose(["data=digits", "model=mine"], [folder])
    return caught.value.problems


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_file_is_refused_in_one_line(config_dir, kind):
    import re

    text, message = FILES[kind]
    found = own(config_dir, f"name: mlp\n{text}\n")
    assert re.search(message, found[0]), found[0]
    assert all(len(line.replace(str(config_dir), "")) <= 200 and line.isprintable() for line in found)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_refused(config_dir, encoding):
    assert own(config_dir, "name: mlp # é\n".encode(encoding)) == [f"{config_dir}/model/mine.yaml: not UTF-8 text"]


def test_what_is_no_regular_file_is_refused(config_dir):
    (config_dir / "model").mkdir()
    file = config_dir / "model" / "mine.yaml"
    for make, reason in (
        (lambda: os.mkfifo(file), "not a regular file"),
        (lambda: file.symlink_to("/dev/zero"), "not a regular file"),
        (lambda: file.symlink_to("/nowhere/at/all"), "no such file"),
    ):
        make()
        with pytest.raises(ConfigError, match=f"mine.yaml: {reason}; expected a YAML file"):
            compose(["model=mine"], [config_dir])
        file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match="mine.yaml: a folder; expected a YAML file"):
        compose(["model=mine"], [config_dir])


def test_a_file_outside_the_groups_is_checked_before_hydra_reads_it(config_dir):
    (config_dir / "elsewhere").mkdir()
    (config_dir / "elsewhere" / "bomb.yaml").write_text(BOMB)
    found = own(config_dir, "defaults:\n  - /elsewhere/bomb\nname: mlp\n")
    assert "elsewhere/bomb.yaml:4: more than 5,000 values" in found[0]


def test_aliases_in_reason_are_fine(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a [1, 2]\nb: *a\nc: &c {d: *a}\ne: *c\n")
    assert load_yaml(tmp_path / "x.yaml") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}, "e": {"d": [1, 2]}}


def test_bombs_cost_little_memory(tmp_path):
    """A megabyte of values, a bomb and a deep file, read one after the other in a process of 300 MB."""
    for name in ("alias bomb", "deep, never closed", "many values", "large"):
        (tmp_path / f"{name}.yaml").write_text(FILES[name][0])
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom dlcli.catalogue import header, load_yaml\n"
        "from dlcli.errors import ConfigError\nrefused = 0\n"
        "for file in Path(sys.argv[1]).iterdir():\n    header(file)\n    try: load_yaml(file)\n"
        "    except ConfigError: refused += 1\n"
        "print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 300_000)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["4", "True"]


# ------------------------------------------------------------------ keys that could call something (S2)

GADGETS = [
    "os.system", "logging.os.system", "subprocess.run", "builtins.eval", "pickle.loads", "runpy.run_path",
    "ctypes.CDLL", "timeit.timeit", "torch.utils.collect_env.run", "setuptools._distutils.spawn.spawn",
    "torch.hub.load", "torch.load",
]  # fmt: skip
KEYS = ["_target_", "_partial_", "_args_", "_recursive_", "_convert_"]
REFUSAL = "is not allowed: a configuration names registered entries only"


@pytest.mark.parametrize("gadget", GADGETS)
def test_targets_in_a_file_are_refused(config_dir, gadget):
    found = own(config_dir, f"name: mlp\n_target_: {gadget}\n_args_: [touch canary]\n")
    assert f"model._target_ {REFUSAL}" in found
    found = own(config_dir, f"name: mlp\nhidden_sizes:\n  - {{_target_: {gadget}, _args_: [touch canary]}}\n")
    assert f"model.hidden_sizes._target_ {REFUSAL}" in found


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("place", ["", "model.", "optimizer.", "task.", "trainer.deep.er."])
def test_such_keys_in_overrides_are_refused(key, place):
    with pytest.raises(ConfigError) as caught:
        compose(["data=digits", f"+{place}{key}=os.system"])
    assert f"{place}{key} {REFUSAL}" in caught.value.problems


def test_such_keys_within_a_value_are_refused():
    with pytest.raises(ConfigError, match=rf"model.dropout._target_ {REFUSAL}"):
        compose(["data=digits", "model.dropout={_target_: os.system}"])
    with pytest.raises(ConfigError, match=rf"model.hidden_sizes._target_ {REFUSAL}"):
        compose(["data=digits", "model.hidden_sizes=[{_target_: os.system}]"])


def test_such_keys_in_a_global_file_are_refused(config_dir):
    (config_dir / "experiment").mkdir()
    (config_dir / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {callbacks: {x: {_target_: os.system, command: touch canary}}}\n"
        "_target_: os.system\nmodel: {dropout: {_target_: os.system}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        compose(["data=digits", "experiment=mine"], [config_dir])
    assert f"_target_ {REFUSAL}" in caught.value.problems
    assert f"model.dropout._target_ {REFUSAL}" in caught.value.problems


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("verb", [["eval"], ["train", "--resume"], ["sample"]])
def test_such_keys_in_a_saved_run_are_refused(tmp_path, key, verb, capsys):
    """Opened by every verb that opens runs; a checkpoint is not even looked for."""
    from dlcli.__main__ import run

    config = compose(["data=digits"]).config
    config["model"]["dropout"] = {key: "os.system"}
    folder = tmp_path / "a-run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "spec.json").write_text(
        json.dumps({"choices": {"data": "digits"}, "plugins": [], "sizes": {}, "label_names": None, "fingerprint": ""})
    )
    (folder / "summary.json").write_text("{}")
    assert run([*verb, str(folder)]) == 2
    assert f"dlcli: model.dropout.{key} {REFUSAL}" in capsys.readouterr().err.splitlines()


def test_a_saved_bomb_is_refused(tmp_path):
    from dlcli.__main__ import run

    (tmp_path / "config.yaml").write_text(BOMB)
    (tmp_path / "spec.json").write_text(json.dumps({"choices": {}, "plugins": [], "sizes": {}}))
    (tmp_path / "summary.json").write_text("{}")
    assert run(["eval", str(tmp_path)]) == 2


# ------------------------------------------------------------------ overrides (F1)

NAMES = [
    "model", "data", "task", "optimizer", "scheduler", "trainer", "experiment", "seed", "run_dir", "init_from",
    "layers", "model.hidden_sizes", "optimizer.lr", "data.batch_size", "trainer.max_epochs", "model.", "..",
    "a.b.c.d", "_target_", "model._target_", "hydra.run.dir", "hydra/launcher", "defaults", "x", "~model",
    "model@z", "/model", "model/../x", "é", "trainer.eval_every", "data.path", "task.loss", "seed.x",
    "optimizer.betas", "optimizer.betas.0", "optimizer.betas[0]", "experiment.x", "hydra", "model.name", "0",
    "null", "[]", "", "model.hidden size", "x" * 300,
]  # fmt: skip
VALUES = [
    "1", "-1", "1e-3", "nan", "inf", "null", "true", "no", "010", "12:30:45", "lstm", "mlp", "digits", "sgd",
    "[1,2]", "[", "]", "{a:1}", "{", "{a:{b:{c:1}}}", "${seed}", "${nope}", "${model}", "${oc.env:HOME}", "${",
    "${${seed}}", "${model.name}", "???", "'", '"', '\\', "a,b", "choice(1,2)", "range(1,3)", "glob(*)", "int(x)",
    "int(3)", "json_str({})", "é漢", "'a\nb'", "@", "_target_", "{_target_:os.system}", "interval(0,1)", "tag(a,1)",
    "extend_list(1)", "${.lr}", "${..seed}", "0x10", "1_000", "1e999", "${optimizer}", "[${seed}]",
    "${hydra:run.dir}", "${env:HOME}", "'${oc.env:HOME}'", "../x", "~", "/etc/passwd", 'digits\\', "", " ", '\t',
    '\n', '\x00', "x" * 500, "1" * 400, "[" * 200 + "]" * 200, "2 epochs", '\udcff',
]  # fmt: skip
VALID = [
    "model=mlp", "model=lenet", "optimizer=sgd", "optimizer.lr=1e-2", "optimizer.lr=.5", "seed=${data.batch_size}",
    "data=digits", "data=mnist", "scheduler=one_cycle", "trainer.max_steps=3", "++seed=5", "+seed=6",
    "trainer=minibatch", "data.batch_size=8", "init_from=null",
]  # fmt: skip


def override(rng: random.Random) -> str:
    """A right one, a strange key with a strange value, or one with random characters changed."""
    chance = rng.random()
    if chance < 0.4:
        return rng.choice(VALID)
    text = rng.choice(["", "", "", "+", "++", "~"]) + rng.choice(NAMES) + rng.choice(["=", "=", "=", ":", "", " = "])
    text += rng.choice(VALUES)
    if chance < 0.8:
        return text
    characters = list(text)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randint(0, 1)] = rng.choice("={}[],.:'\"$\\~+@/ \n\t\0()*?é0a")
    return "".join(characters)


def judged(overrides: list[str]) -> bool:
    """Whether they compose. If not, there is a line of at most 200 printable characters for each problem."""
    try:
        compose(overrides)
        return True
    except ConfigError as error:
        for line in error.problems:
            assert len(line) <= 200, (overrides, line)
            assert line.isprintable(), (overrides, line)
            assert any(part in line for text in overrides for part in named(text)), (overrides, line)
        return False


def named(text: str) -> Iterator[str]:
    """How a line may refer to an override: by its text, its key or its group."""
    yield shown(text)[:12]
    key = text.lstrip("+~").partition("=")[0]
    yield shown(key).strip()[:12]
    yield shown(key.partition(".")[0]).strip()[:12]


@pytest.mark.parametrize("part", range(8))
def test_fuzzed_overrides_compose_or_are_explained(part):
    rng = random.Random(part)
    composed = [judged(["data=digits", *(override(rng) for _ in range(rng.choice([1, 1, 2])))]) for _ in range(125)]
    assert 20 < sum(composed) < 105


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text(max_size=60),
        st.builds("{}={}".format, st.sampled_from(NAMES), st.text(max_size=40)),
        st.builds("{}={}".format, st.sampled_from(NAMES), st.text(st.sampled_from("[]{}(),:'\"\\$ .a1*"), max_size=30)),
    )
)
def test_any_text_composes_or_is_explained(text):
    judged(["data=digits", text])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.builds("{}={}".format, st.sampled_from(NAMES), st.text(st.sampled_from("[]{}(),:'\"\\$ .a1*\n\0"), max_size=20))
)
def test_overrides_of_a_saved_run_change_it_or_are_explained(text):
    saved = {
        "model": {"name": "mlp", "dropout": 0.1},
        "trainer": {"max_steps": 1},
        "data": {"name": "digits"},
        "seed": 0,
    }
    for change in (
        lambda: change_group_values(saved, [text], []),
        lambda: change_values(saved, [text], {"trainer.max_steps"}),
    ):
        try:
            change()
        except ConfigError as error:
            for line in error.problems:
                assert len(line) <= 200, line
                assert line.isprintable(), line


@pytest.mark.parametrize(
    "text",
    ["x=" + "a," * 990, "x=[" + "1," * 980 + "1]", "x=" + "${a}" * 490, "x=" + "'" * 1990, "x=" + "\\" * 1990,
     "x=" + "[]" * 990, "a." * 990 + "a=1", "x=" + "1" * 1990, "x=" + "9" * 5000, "x=" + "[" * 19 + "]" * 19,
     "x=" + "f(" * 1000, "x=" + "a b " * 490, "[" * 5000, "optimizer.lr=" + "9" * 400, "é" * 199 + "=1"],
)  # fmt: skip
def test_long_overrides_are_explained(text):
    assert not judged(["data=digits", text])


def test_the_command_line_leaves_with_0_or_2(tmp_path):
    """Samples of each kind in processes of their own: no traceback, one line for each problem."""
    rng = random.Random(1)
    samples = [["optimizer.lr=1e-2"], ["seed=${data.batch_size}"]]
    while len(samples) < 20:
        text = override(rng)
        if "\0" not in text and not text.startswith("-") and text not in VALID:
            samples.append([text])

    def call(overrides: list[str]) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", "dlcli", "train", "--dry-run", "data=digits", *overrides],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            check=False,
            timeout=200,
        )
        return result.returncode, result.stderr.decode(errors="replace")

    with ThreadPoolExecutor(2) as pool:
        for overrides, (code, errors) in zip(samples, pool.map(call, samples), strict=True):
            assert code in (0, 2), (overrides, code, errors)
            assert "Traceback" not in errors
            assert all(line.startswith("dlcli: ") for line in errors.splitlines()), (overrides, errors)
            assert (code == 2) == bool(errors)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ the pieces


def test_shown_is_one_printable_line():
    assert shown("a\nb\0c\udcff") == "a\\nb\\x00c\\udcff"
    assert shown("é漢") == "é漢"
    assert shown("x" * 100, 10) == "x" * 9 + "…"
    assert shown(None) == "None"


def test_listing_stops_in_time():
    assert listing(["a", "b"]) == "a, b"
    assert listing(["aaaa", "bbbb", "cccc"], 10) == "aaaa, bbbb, …"
    assert listing(["x" * 300]) == "x" * 300
    assert listing([]) == ""
