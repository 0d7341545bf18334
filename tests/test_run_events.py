"""What a whole run leaves in TensorBoard, and what a person sees on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlcli import train
from dlcli.progress import Progress
from dlcli.run import Run


def events(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run.directory), size_guidance={"images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_classifier_leaves_scalars_pictures_and_its_configuration(tmp_path: Path) -> None:
    run = train(
        ["data=digits", "trainer.max_steps=20", "trainer.log_every=5", f"run_dir={tmp_path}", "trainer.eval_every=10"]
    )
    seen = events(run)
    scalars = seen.Tags()["scalars"]
    assert {"train/loss", "train/gradient_norm", "train/learning_rate", "train/samples_per_second"} <= set(scalars)
    assert {"val/loss", "val/accuracy", "val/top_k_accuracy"} <= set(scalars)
    assert [event.step for event in seen.Scalars("train/loss")] == [5, 10, 15, 20]
    assert [event.step for event in seen.Scalars("val/loss")] == [10, 20]
    assert {"val/predictions", "val/confusion_matrix", "val/most_confident_mistakes"} <= set(seen.Tags()["images"])
    assert "test/most_confident_mistakes" in seen.Tags()["images"]  # of the best weights, at the end
    texts = [tag for tag in seen.Tags()["tensors"] if tag.startswith("config")]
    assert texts, seen.Tags()["tensors"]
    assert b"hidden_sizes" in seen.Tensors(texts[0])[0].tensor_proto.string_val[0]


def test_a_language_model_leaves_a_sample_at_each_evaluation(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    small = ["model.hidden_size=8", "data.sequence_length=8", "data.batch_size=4", "trainer.max_steps=8"]
    run = train(
        [
            "data=text",
            f"data.path={tmp_path / 'book.txt'}",
            *small,
            "trainer.eval_every=4",
            f"run_dir={tmp_path / 'runs'}",
        ]
    )
    seen = events(run)
    tag = next(tag for tag in seen.Tags()["tensors"] if "sample" in tag)
    assert [event.step for event in seen.Tensors(tag)] == [4, 8]
    assert {"val/perplexity", "val/bits_per_character", "train/tokens_per_second"} <= set(seen.Tags()["scalars"])


def test_the_hparams_tab_has_the_final_metrics(tmp_path: Path) -> None:
    run = train(["data=digits", "trainer.max_steps=3", f"run_dir={tmp_path}"])
    seen = events(run)
    assert seen.Scalars("final/test/accuracy")[0].value == pytest.approx(run.summary["metrics"]["test"]["accuracy"])
    assert "_hparams_/session_start_info" in seen.summary_metadata


def test_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=False, unit="tokens", terminal=False)
    progress.start(100, 0)
    progress.report(10, 1, {"train/loss": 1.23456}, 4321.0)
    progress.evaluated(20, "val", {"loss": 1.5, "accuracy": 0.25}, "loss")
    progress.report(30, 2, {"train/loss": 1.0}, None)
    progress.stop()
    assert capsys.readouterr().out.splitlines() == [
        "step 10/100  epoch 1  loss 1.2346  4,321 tokens/s",
        "step 20: val  loss 1.5000  accuracy 0.2500",
        "step 30/100  epoch 2  loss 1.0000  val/loss 1.5000",
    ]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True, unit="tokens", terminal=True)
    progress.start(10, 0)
    progress.advance(1)
    progress.report(1, 1, {"train/loss": 1.0}, 1.0)
    progress.say("hello")
    progress.stop()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("training", [False, True])
def test_a_long_evaluation_is_counted_on_a_terminal(
    training: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # else rich draws nothing into a pipe
    monkeypatch.setattr("rich._console", None)  # which another test may have made
    monkeypatch.setattr("dlcli.progress.BAR_INTERVAL", 0.0)
    progress = Progress(quiet=False, unit="tokens", terminal=True)
    if training:
        progress.start(10, 0)
    assert list(progress.measuring("val", range(3))) == [0, 1, 2]
    assert "measuring" not in capsys.readouterr().out, "a short one"
    monkeypatch.setattr("dlcli.progress.PATIENCE", 0.0)
    assert list(progress.measuring("val", range(2, 9, 2))) == [2, 4, 6, 8]
    assert "measuring val" in capsys.readouterr().out
    watched = progress.measuring("test", range(100))
    next(watched), next(watched)
    watched.close()  # the evaluation ended early
    assert "1/100" in capsys.readouterr().out
    progress.stop()
    assert "measuring" not in capsys.readouterr().out, "it leaves nothing behind"
    for silent in (Progress(quiet=True, unit="", terminal=True), Progress(quiet=False, unit="", terminal=False)):
        assert list(silent.measuring("val", range(5))) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal_shows_loss_metric_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=False, unit="tokens", terminal=True)
    progress.start(10, 0)
    progress.evaluated(2, "val", {"loss": 1.5}, "loss")
    progress.report(5, 1, {"train/loss": 1.25}, 100.0)
    progress.stop()
    out = capsys.readouterr().out
    for part in ("loss 1.2500", "val/loss 1.5000", "100 tokens/s", "step 2: val"):
        assert part in out
