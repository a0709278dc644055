import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.config import DataConfig, TaskConfig
from trainers.data import load
from trainers.data.glue import read_directory
from trainers.data.load import load_splits
from trainers.data.tasks import TASKS, find_task
from trainers.errors import ConfigError, DataError

SST2 = TASKS["sst2"]
SMALL = DataConfig(num_train=300, num_held_out=50, num_validation=80)


@pytest.fixture
def files(tmp_path):
    for name, size in (("train", 200), ("dev", 60)):
        rows = [f"{name} text {index}\t{index % 2}" for index in range(size)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return DataConfig(source=str(tmp_path), num_train=100, num_held_out=20, num_validation=30)


def texts_of(splits):
    return [set(part.texts) for part in (splits.train, splits.held_out, splits.validation)]


@pytest.mark.parametrize("name", TASKS)
def test_builtin_splits_have_the_sizes_asked_for_and_share_no_row(name):
    splits = load_splits(SMALL, TASKS[name])
    train, held_out, validation = texts_of(splits)

    assert (len(train), len(held_out), len(validation)) == (300, 50, 80)
    assert not train & (held_out | validation)
    assert not held_out & validation
    assert splits.fingerprint.startswith(f"builtin:{name}:")


def test_held_out_examples_are_cut_from_the_training_file(files):
    splits = load_splits(files, SST2)
    train, held_out, validation = texts_of(splits)

    assert (len(train), len(held_out), len(validation)) == (100, 20, 30)
    assert not train & held_out
    assert all(row[0].startswith("train") for row in train | held_out)
    assert all(row[0].startswith("dev") for row in validation)


def test_labels_stay_with_their_texts(files):
    splits = load_splits(files, SST2)

    for part in (splits.train, splits.held_out, splits.validation):
        assert [int(row[0].split()[-1]) % 2 for row in part.texts] == part.labels.tolist()


def test_zero_takes_all_that_the_files_have(files):
    splits = load_splits(replace(files, num_train=0, num_validation=0), SST2)

    assert [len(part) for part in texts_of(splits)] == [180, 20, 60]


def test_more_than_there_is_takes_all(files):
    splits = load_splits(replace(files, num_train=999, num_validation=999), SST2)

    assert [len(part) for part in texts_of(splits)] == [180, 20, 60]


def test_training_size_does_not_change_what_is_held_out(files):
    few, many = (load_splits(replace(files, num_train=number), SST2) for number in (10, 100))

    assert few.held_out.texts == many.held_out.texts
    assert set(few.train.texts) < set(many.train.texts)


def test_seed_decides_the_choice_and_the_same_seed_repeats_it(files):
    first, again, other = (load_splits(replace(files, seed=seed), SST2) for seed in (1, 1, 2))

    assert first.fingerprint == again.fingerprint
    assert first.held_out.texts == again.held_out.texts
    assert set(first.held_out.texts) != set(other.held_out.texts)
    assert set(first.validation.texts) != set(other.validation.texts)
    assert first.fingerprint != other.fingerprint


def test_fingerprint_changes_with_a_single_label(files, tmp_path):
    before = load_splits(replace(files, num_validation=0), SST2).fingerprint
    dev = tmp_path / "dev.tsv"
    dev.write_text(dev.read_text().replace("dev text 7\t1", "dev text 7\t0"))

    after = load_splits(replace(files, num_validation=0), SST2).fingerprint

    assert before.startswith("files:sst2:")
    assert before != after


def test_too_few_examples_to_hold_out_says_how_many_there_are(files):
    with pytest.raises(DataError, match=r"has 200 examples, too few to hold out 200 of them"):
        load_splits(replace(files, num_held_out=200), SST2)


@pytest.mark.parametrize("name", ["num_train", "num_validation"])
def test_all_of_the_endless_builtin_data_is_refused(name):
    with pytest.raises(ConfigError, match=rf"`data.{name}` must be at least 1 for built-in data"):
        load_splits(replace(SMALL, **{name: 0}), SST2)


@pytest.mark.parametrize("name", ["mine", "sst2"])
def test_builtin_data_has_no_task_of_a_users_own_even_of_a_known_name(name):
    task = find_task(TaskConfig(name=name, text_columns=("text",), labels=("a", "b")))

    with pytest.raises(DataError, match=rf"no task `{name}`.*`--data DIR`"):
        load_splits(SMALL, task)


def test_hub_data_are_marked_as_such(files, monkeypatch):
    directory = Path(files.source)
    monkeypatch.setattr(load, "read_hub", lambda task: read_directory(directory, task))

    splits = load_splits(replace(files, source="glue"), SST2)

    assert splits.fingerprint.startswith("glue:sst2:")
    assert len(splits.train) == 100


def test_examples_taken_by_index_keep_their_kinds():
    examples = load_splits(SMALL, SST2).train
    indices = np.array([5, 3, 299])

    taken = examples.take(indices)

    assert taken.texts == tuple(examples.texts[index] for index in indices)
    assert np.array_equal(taken.labels, examples.labels[indices])
    assert np.array_equal(taken.kinds, examples.kinds[indices])


def test_importing_the_data_part_loads_nothing_heavy():
    code = (
        "import sys; import trainers.data.load, trainers.data.grouping; "
        "print({'torch', 'transformers', 'datasets', 'pandas', 'sklearn'} & set(sys.modules))"
    )

    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert printed.stdout.strip() == "set()"
