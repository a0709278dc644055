import pytest

from trainers.config import TaskConfig
from trainers.data.tasks import TASKS, find_task
from trainers.errors import DataError


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("qnli", ("entailment", "not_entailment")),
        ("qqp", ("not_duplicate", "duplicate")),
        ("sst2", ("negative", "positive")),
    ],
)
def test_class_ids_are_those_of_glue(name, labels):
    task = find_task(name)

    assert task.labels == labels
    assert [task.spellings[label] for label in labels] == list(range(len(labels)))
    assert [task.spellings[str(index)] for index in range(len(labels))] == list(range(len(labels)))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_under_its_own_name(name):
    assert find_task(name).name == name
    assert len(TASKS[name].text_columns) in (1, 2)


def test_unknown_task_lists_the_known_ones_and_the_way_out():
    with pytest.raises(
        DataError, match=r"`rte` is unknown. Choose one of `mnli`, `qnli`, `qqp`, `sst2`, or"
    ):
        find_task("rte")


def test_a_users_own_task_knows_only_the_labels_it_spells():
    config = TaskConfig(
        name="tickets", text_columns=("subject", "body"), label_column="team", labels=("b", "a")
    )

    task = find_task(config)

    assert task.text_columns == ("subject", "body")
    assert task.label_column == "team"
    assert task.spellings == {"b": 0, "a": 1}
