"""Names of trackers, and what a machine without their packages answers."""

import pytest

from swgctl.errors import InputError, UsageError
from swgctl.trackers import chosen, named
from swgctl.trackers.targets import PACKAGES, Target


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = named(["tensorboard:runs, trackio", "wandb", "wandb:team/hopper", "trackio:hopper", "trackio"])
    assert [str(one) for one in parsed] == [
        f"tensorboard:{tmp_path / 'runs'}",
        "trackio:swgctl",
        "wandb:swgctl",
        "wandb:team/hopper",
        "trackio:hopper",
    ]


def test_a_stage_logs_where_its_option_says_else_where_the_environment_says(monkeypatch):
    assert chosen() == []
    monkeypatch.setenv("SWGCTL_LOG", "trackio,wandb:x")
    assert chosen() == [Target("trackio", "swgctl"), Target("wandb", "x")]
    assert chosen(["wandb"]) == [Target("wandb", "swgctl")]


@pytest.mark.parametrize(
    ("text", "word", "advice"),
    [
        ("tensorbord:runs", "did you mean 'tensorboard'", "swgctl log REF --to tensorboard:runs"),
        ("mlflow", "no tracker 'mlflow'", "tensorboard:runs"),
        ("tensorboard", "needs a directory", "swgctl log REF --to tensorboard:runs"),
        ("trackio:a/b", "no name of a project", "swgctl log REF --to trackio:swgctl"),
        ("wandb:a/b/c", "no name of a project", "swgctl log REF --to wandb:swgctl"),
        ("wandb:../x", "no name of a project", "swgctl log REF --to wandb:swgctl"),
        ("trackio:\x1b[2J", "\\x1b", "swgctl log REF --to trackio:swgctl"),
    ],
)
def test_bad_names(text, word, advice):
    with pytest.raises(UsageError) as caught:
        named([text])
    assert word in str(caught.value)
    assert advice in str(caught.value.help)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match="is not a directory"):
        named([f"tensorboard:{tmp_path / 'runs'}"])


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("swgctl.trackers.targets.PACKAGES", dict.fromkeys(PACKAGES, "no_such_package"))
    for target in named(["tensorboard:runs,trackio,wandb"]):
        with pytest.raises(InputError, match="no_such_package") as caught:
            target.check()
        assert caught.value.help == f"pip install 'swgctl[{target.kind}]'"
