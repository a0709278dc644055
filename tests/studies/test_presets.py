from importlib import resources

import pytest

from autoprumux.study_files import DEFAULT_PRESET, load_study

PRESETS = sorted(
    item.name.removesuffix(".toml")
    for item in resources.files("studies").iterdir()
    if item.name.endswith(".toml")
)


def test_the_promised_presets_are_there():
    assert {"embedded", "minilm", "bert-base", "paper-grid"} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_parses_and_opens_with_its_command(preset):
    text = resources.files("studies").joinpath(f"{preset}.toml").read_text(encoding="utf-8")

    study = load_study(preset)

    assert study.name == f"qnli-{preset}"
    comment = [line for line in text.splitlines() if line.startswith("#   autoprumux search")]
    wanted = "" if preset == DEFAULT_PRESET else f"--preset {preset}"
    assert comment
    assert wanted in comment[0]


def test_the_default_preset_needs_no_network():
    study = load_study(DEFAULT_PRESET)

    assert study.trainer.data.source == "builtin"
    assert study.trainer.model.source == "builtin"


def test_the_paper_grid_may_train_every_cell():
    search = load_study("paper-grid").search

    assert search.sampler == "grid"
    assert search.max_trials == len(search.widths) * len(search.sparsities)


def test_the_paper_grid_has_the_recipe_of_bert_base():
    assert load_study("paper-grid").trainer == load_study("bert-base").trainer
