import json
import shlex
from dataclasses import replace

import pytest

from autoprumux.config import config_hash
from autoprumux.errors import MixedDevicesError, NoBaselineError, StudyMismatchError
from autoprumux.evaluators.recording import record_studies
from autoprumux.records import Candidate
from autoprumux.study_files import Override, load_study, parse_setting


def record(*studies, name=""):
    return record_studies(studies, name=name, recorded="2026-11-23")


def test_every_candidate_and_seed_is_recorded_once(make_recorded_study):
    studies = [make_recorded_study(seed=0), make_recorded_study(seed=1)]

    recording = record(*studies)

    assert recording.name == "qnli-builtin-builtin"
    assert recording.seeds == (0, 1)
    assert len(recording.trials) == 18
    assert recording.candidates == tuple(t.candidate for t in studies[0].trials)


def test_a_grid_trained_in_parts_becomes_one_recording(make_recorded_study):
    whole = make_recorded_study()
    parts = [make_recorded_study(widths=(1, 2)), make_recorded_study(widths=(1, 5))]

    assert record(*parts).trials == record(whole).trials


def test_a_running_trial_is_left_out(make_recorded_study):
    study = make_recorded_study()
    last = replace(study.trials[-1], state="running", failure=None)

    recording = record(replace(study, trials=(*study.trials[:-1], last)))

    assert last.candidate not in recording.candidates


def test_the_environment_keeps_what_differs_between_trials(make_recorded_study):
    recording = record(make_recorded_study(seed=0), make_recorded_study(seed=1))

    assert recording.environment == {"device": ("cpu",), "seed": ("0", "1")}


def test_the_command_makes_the_study_again(make_recorded_study):
    study = make_recorded_study(seed=7)

    (command,) = record(study).commands

    words = shlex.split(command)
    assert words[:6] == ["autoprumux", "search", "--task", "qnli", "--study", "qnli-seed7"]
    settings = [parse_setting(text) for text in words[6:] if text != "--set"]
    again = load_study("embedded", [*settings, Override("name", "qnli-seed7", "--study")])
    assert config_hash(again) == study.config_hash
    assert again.search.budgets == study.budgets


def test_folders_of_the_recording_machine_are_left_out(make_recorded_study):
    study = make_recorded_study()
    trainer = {**study.config["trainer"], "data": {"source": "/home/me/data/SST-2"}}
    trainer["model"] = {"source": "builtin", "wide_source": "/home/me/n{N}"}

    recording = record(replace(study, config={**study.config, "trainer": trainer}))

    assert recording.name == "qnli-sst-2-builtin"
    assert recording.trainer["data"] == {"source": "SST-2"}
    assert recording.trainer["model"] == {"source": "builtin", "wide_source": "n{N}"}
    assert "/home/me" not in " ".join(recording.commands)


def test_a_study_without_a_baseline_is_refused(make_recorded_study):
    study = make_recorded_study()

    with pytest.raises(NoBaselineError, match=r"`qnli-seed0` has no measured dense baseline"):
        record(replace(study, trials=study.trials[1:]))


def on_processors(study, *processors):
    """The study on a CPU, its first trials on these processors, all others on the last."""
    trials, left = [], list(processors)
    for trial in study.trials:
        processor = left.pop(0) if len(left) > 1 else left[0]
        found = trial.measurement
        if found is not None:
            speed = replace(found.throughput, device="cpu")
            found = replace(found, throughput=speed, environment={"processor": processor})
        trials.append(replace(trial, measurement=found))
    return replace(study, trials=tuple(trials))


def test_a_study_of_two_processors_is_not_recorded(make_recorded_study):
    study = on_processors(make_recorded_study(), "Old 1", "Old 1", "New 2")

    with pytest.raises(
        MixedDevicesError,
        match=r"'Old 1', trial 2 of study `qnli-seed0` with `processor` 'New 2' \(and 5 more"
        r"\)\. Record studies of each setting apart",
    ):
        record(study)


def test_studies_of_two_processors_are_recorded_apart(make_recorded_study):
    unknown, old, new = (
        on_processors(make_recorded_study(seed=seed), processor)
        for seed, processor in enumerate(("", "Old 1", "New 2"))
    )

    assert record(unknown, old).processors == ("Old 1",)
    with pytest.raises(MixedDevicesError, match="trial 0 of study `qnli-seed2` with `processor`"):
        record(unknown, old, new)


def test_one_seed_of_a_recording_knows_the_processor_if_there_was_one(make_recorded_study):
    recording = record(on_processors(make_recorded_study(), "Old 1"))
    older = replace(recording, environment={"processor": ("New 2", "Old 1")})

    assert recording.as_study(0).timing.processor == "Old 1"
    assert older.as_study(0).timing.processor == ""


def test_studies_on_other_examples_are_refused(make_recorded_study):
    other = replace(make_recorded_study(seed=1), data_fingerprint="builtin:qnli:4567")

    with pytest.raises(StudyMismatchError, match=r"other examples \(builtin:qnli:0123 and .*4567"):
        record(make_recorded_study(), other)


def test_studies_of_another_recipe_are_refused(make_recorded_study):
    study = make_recorded_study(seed=1)
    trainer = {**study.config["trainer"], "precision": "bfloat16"}
    other = replace(study, config={**study.config, "trainer": trainer})

    with pytest.raises(
        StudyMismatchError, match=r"`trainer.precision` \('float32' and 'bfloat16'\)"
    ):
        record(make_recorded_study(), other)


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_studies_from_before_an_option_was_added_go_with_those_at_its_default(
    make_recorded_study, temperature
):
    before, study = make_recorded_study(), make_recorded_study(seed=1)
    old, new = (json.loads(json.dumps(s.config["trainer"])) for s in (before, study))
    del old["finetune"]["temperature"]
    new["finetune"]["temperature"] = temperature
    both = [
        replace(s, config={**s.config, "trainer": t}) for s, t in ((before, old), (study, new))
    ]

    if temperature == 2.0:
        assert record(*both).seeds == (0, 1)
    else:
        with pytest.raises(StudyMismatchError, match=r"`trainer.finetune.temperature` \(None and"):
            record(*both)


def test_one_seed_of_a_recording_is_a_study(make_recorded_study):
    first, second = make_recorded_study(seed=0), make_recorded_study(seed=1)

    study = record(first, second).as_study(1)

    assert study.seed == 1
    assert study.config["search"] == {"widths": [1, 2, 5], "sparsities": [0.0, 0.6, 0.9]}
    assert study.measured.keys() == second.measured.keys()
    accuracies = {c: m.accuracy for c, m in study.measured.items()}
    assert accuracies == {c: m.accuracy for c, m in second.measured.items()}
    assert accuracies != {c: m.accuracy for c, m in first.measured.items()}
    assert [t.candidate for t in study.trials if t.failure] == [Candidate(5, 0.9)]
