"""``dlcli list``."""

import json


def test_one_group_is_an_aligned_table(dlcli, own):
    code, out, err = dlcli("list", "model", "fake_*", "--config-dir", own)
    assert (code, err) == (0, "")
    assert out.split("\n") == [
        "model",
        "  fake_large (own)  A wide network.  nowhere, section 2",
        "  fake_wider (own)  Wider still.",
        "",
    ]


def test_all_groups_are_listed_under_their_names(dlcli, own):
    _, out, _ = dlcli("list", "--plugin", own)
    lines = out.split("\n")
    groups = ["model", "data", "task", "optimizer", "scheduler", "trainer", "experiment"]
    assert [line for line in lines if line in groups] == groups
    assert any(line.startswith("  fake/wide") and line.endswith("nowhere, section 3") for line in lines)


def test_our_own_entries_have_a_description_each(dlcli):
    code, out, _ = dlcli("list", "--json")
    assert code == 0
    assert all(entry["description"] for entry in json.loads(out))


def test_json_has_every_field(dlcli, own):
    _, out, _ = dlcli("list", "model", "fake_large", "--json", "--config-dir", own)
    assert json.loads(out) == [
        {
            "group": "model",
            "name": "fake_large",
            "description": "A wide network.",
            "source": "nowhere, section 2",
            "file": str(own / "model" / "fake_large.yaml"),
        }
    ]


def test_experiments_say_what_the_books_report(dlcli, config_dir):
    folder = config_dir / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "# My recipe.\n# Source: me\n# Reported: test/accuracy 0.9\n# Minutes: 2\nseed: 1\n"
    )
    assert dlcli("list", "experiment", "mine", "--config-dir", config_dir) == (
        0,
        "experiment\n  mine (own)  test/accuracy 0.9, 2 min  My recipe.  me\n",
        "",
    )
    _, out, _ = dlcli("list", "experiment", "mine", "--json", "--config-dir", config_dir)
    assert json.loads(out)[0]["reported"] == {"test/accuracy": 0.9}


def test_a_malformed_header_of_an_experiment_is_named(dlcli, config_dir):
    folder = config_dir / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# My recipe.\n# Reported: 90 %\nseed: 1\n")
    code, _, err = dlcli("list", "experiment", "--config-dir", config_dir)
    assert code == 2
    assert "mine.yaml: 'Reported: 90 %': expected a metric and a number" in err


def test_an_unknown_group_and_a_glob_without_matches(dlcli):
    assert dlcli("list", "modle") == (2, "", "dlcli: no group 'modle'; did you mean model?\n")
    assert dlcli("list", "model", "zzz*") == (2, "", "dlcli: no model matches 'zzz*'; see 'dlcli list model'\n")
    assert dlcli("list", "model", "zzz*", "--json") == (0, "[]\n", "")


def test_a_folder_that_is_not_there(dlcli):
    code, _, err = dlcli("list", "--config-dir", "nowhere")
    assert (code, err) == (2, "dlcli: nowhere: no such folder of configurations\n")
