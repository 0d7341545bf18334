"""``dlcli show`` and the curve of a schedule."""

import sys

import pytest
import yaml

from dlcli.cli.show import draw_curve


def test_files_in_order_with_comments_then_the_result(dlcli, own):
    code, out, err = dlcli("show", "--plugin", own, "data=fake_poems", "model.dropout=0.5")
    assert (code, err) == (0, "")
    files = [line.removeprefix("# ---- ") for line in out.split("\n") if line.startswith("# ---- ")]
    assert files[0].endswith("config.yaml")
    assert files[-3:] == [str(own / "data" / "fake_poems.yaml"), "overrides", "result"]
    assert str(own / "model" / "fake_large.yaml") in files
    assert "hidden_size: 512  # of the state" in out
    assert "# model.dropout=0.5" in out
    result = yaml.safe_load(out.split("# ---- result\n")[1])
    assert result["model"] == {
        "name": "fake_net",
        "hidden_size": 512,
        "dropout": 0.5,
        "cell": "lstm",
        "tied": False,
        "bias": None,
    }


def test_a_wrong_option_is_refused_with_the_nearest_name(dlcli, own):
    code, out, err = dlcli("show", "--plugin", own, "model.hiden_size=3")
    assert (code, out) == (2, "")
    expected = "dlcli: unknown option 'model.hiden_size' of model 'fake_net'; did you mean model.hidden_size?\n"
    assert err == expected


def test_a_curve_in_the_terminal(dlcli, own):
    code, out, err = dlcli("show", "--plot", "--plugin", own, "trainer.max_steps=200")
    assert (code, err) == (0, "")
    lines = out.split("\n")
    assert lines[0] == "learning rate, scheduler=constant"
    assert lines[1].startswith("0.01 |***")  # starts at the optimizer's rate and falls
    assert lines[12].startswith("   0 |")
    assert lines[12].endswith("***")
    assert lines[14].endswith("step 200")
    assert out.isascii()
    assert lines[15:] == ["note: an epoch is taken to be 40 steps; the data decide it in a run", ""]


def test_a_curve_without_a_number_of_steps_says_what_it_assumed(dlcli, own):
    _, out, _ = dlcli("show", "--plot", "--plugin", own, "scheduler.hold=5")
    assert "step 1000\nnote: the data decide how many steps trainer.max_epochs=5 is: drawn for 1000 steps\n" in out


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ([], 30 * 235),  # 60,000 pictures by 256
        (["data.val_size=5000", "trainer.accumulate=2"], 30 * 108),
        (["data.train_size=1000"], 30 * 4),
        (["trainer.max_steps=700"], 700),
        (["trainer.limit_train_batches=10", "trainer.max_epochs=0.5"], 5),
    ],
)
def test_the_curve_of_published_data_has_the_steps_of_the_run(dlcli, overrides, steps):
    code, out, _ = dlcli("show", "--plot", "experiment=d2l/lr_cosine", *overrides)
    assert code == 0
    assert out.endswith(f"step {steps}\n"), "and nothing is assumed"


def test_a_curve_as_a_picture(dlcli, own, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    code, out, _ = dlcli("show", "--plot", picture, "--plugin", own)
    assert (code, out.split("\n")[0]) == (0, f"{picture}: learning rate, scheduler=constant")
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = dlcli("show", "--plot", tmp_path / "no" / "curve.png", "--plugin", own)
    assert (code, err) == (2, f"dlcli: {tmp_path}/no/curve.png: cannot be written (No such file or directory)\n")


def test_a_picture_without_matplotlib(dlcli, own, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = dlcli("show", "--plot", "curve.png", "--plugin", own)
    assert code == 2
    assert "pip install 'dlcli[plot]'" in err


def test_a_schedule_that_refuses_its_options(dlcli, own):
    code, _, err = dlcli("show", "--plot", "--plugin", own, "scheduler.hold=13")
    assert (code, err) == (2, "dlcli: scheduler 'fake_linear': 13 brings bad luck\n")


def test_curves_of_few_points_and_of_zero():
    assert draw_curve([0], [0.5]).startswith("0.5 |****")
    assert "1 |" in draw_curve([0, 1], [0.0, 0.0])
