import json
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from trainers.config import TaskConfig
from trainers.data.glue import read_directory, read_hub
from trainers.data.tasks import TASKS, find_task
from trainers.errors import DataError

SST2 = TASKS["sst2"]
REVIEWS = [("a fine film", 1), ('a "film"', 0), ("NA", 0), ("null", 1)]


def write_tsv(path, rows=REVIEWS, header=("sentence", "label")):
    lines = ["\t".join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_csv(path, rows=REVIEWS):
    pd.DataFrame(rows, columns=["sentence", "label"]).to_csv(path, index=False)


def write_jsonl(path, rows=REVIEWS):
    lines = [json.dumps({"sentence": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(path, rows=REVIEWS):
    pd.DataFrame(rows, columns=["sentence", "label"]).to_parquet(path)


WRITERS = {".tsv": write_tsv, ".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}


@pytest.fixture
def directory(tmp_path):
    write_tsv(tmp_path / "train.tsv")
    write_tsv(tmp_path / "dev.tsv", REVIEWS[:2])
    return tmp_path


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("validation_name", ["dev", "validation"])
def test_every_format_yields_the_same_examples(tmp_path, suffix, validation_name):
    WRITERS[suffix](tmp_path / f"train{suffix}")
    WRITERS[suffix](tmp_path / f"{validation_name}{suffix}", REVIEWS[:2])

    train, validation = read_directory(tmp_path, SST2)

    assert train.texts == tuple((text,) for text, _ in REVIEWS)
    assert train.labels.tolist() == [1, 0, 0, 1]
    assert validation.texts == (("a fine film",), ('a "film"',))
    assert train.kinds is None


@pytest.mark.parametrize(
    ("name", "header", "row", "texts", "label"),
    [
        ("mnli", "index sentence1 sentence2 gold_label", "7 a b neutral", ("a", "b"), 1),
        ("mnli", "premise hypothesis label idx", "a b 2 7", ("a", "b"), 2),
        ("qnli", "index question sentence label", "7 a b not_entailment", ("a", "b"), 1),
        ("qnli", "question sentence label idx", "a b 0 7", ("a", "b"), 0),
        ("qqp", "id qid1 qid2 question1 question2 is_duplicate", "7 8 9 a b 1", ("a", "b"), 1),
        ("qqp", "question1 question2 label idx", "a b 0 7", ("a", "b"), 0),
        ("sst2", "sentence label idx", "a 1 7", ("a",), 1),
        ("sst2", "label sentence", "negative a", ("a",), 0),
    ],
)
def test_columns_of_glue_files_and_of_the_hub_are_both_known(
    tmp_path, name, header, row, texts, label
):
    for file in ("train.tsv", "dev.tsv"):
        write_tsv(tmp_path / file, [row.split()], header.split())

    train, _ = read_directory(tmp_path, TASKS[name])

    assert train.texts == (texts,)
    assert train.labels.tolist() == [label]


@pytest.mark.parametrize("name", ["SST-2", "sst2"])
def test_the_parent_of_the_tasks_folders_will_do(tmp_path, name):
    (tmp_path / name).mkdir()
    write_tsv(tmp_path / name / "train.tsv")
    write_tsv(tmp_path / name / "dev.tsv")

    train, _ = read_directory(tmp_path, SST2)

    assert len(train) == len(REVIEWS)


def test_a_users_own_task_reads_its_own_columns_and_labels(tmp_path):
    task = find_task(
        TaskConfig(
            name="tickets",
            text_columns=("subject", "body"),
            label_column="team",
            labels=("x", "y"),
        )
    )
    for file in ("train.tsv", "dev.tsv"):
        write_tsv(tmp_path / file, [("y", "b", "s")], ("team", "body", "subject"))

    train, _ = read_directory(tmp_path, task)

    assert train.texts == (("s", "b"),)
    assert train.labels.tolist() == [1]


def test_windows_line_ends_byte_order_mark_and_rare_separators_change_no_text(directory):
    content = "\ufeffsentence\tlabel\r\na\u2028b\x85c\t1\r\n"
    (directory / "train.tsv").write_bytes(content.encode())

    train, _ = read_directory(directory, SST2)

    assert train.texts == (("a\u2028b\x85c",),)


def test_quoted_csv_field_may_span_lines_and_later_line_numbers_stay_right(directory):
    (directory / "train.tsv").unlink()
    (directory / "train.csv").write_text('sentence,label\n"one\ntwo",1\nthree,5\n')

    with pytest.raises(DataError, match=r"Line 4 of `.*train.csv` has the label '5'"):
        read_directory(directory, SST2)


def test_boolean_labels_are_read_as_numbers(directory):
    (directory / "train.tsv").unlink()
    (directory / "train.jsonl").write_text('{"sentence": "a", "label": true}\n')

    assert read_directory(directory, SST2)[0].labels.tolist() == [1]


def test_missing_directory_says_what_data_can_be(tmp_path):
    with pytest.raises(
        DataError, match=r"no directory `.*nowhere`. `--data` is `builtin`, `glue`"
    ):
        read_directory(tmp_path / "nowhere", SST2)


@pytest.mark.parametrize("name", ["train", "dev"])
def test_missing_file_lists_those_there(directory, name):
    (directory / f"{name}.tsv").rename(directory / f"{name}.xlsx")

    with pytest.raises(DataError, match=rf"no `{name}` file \(.tsv, .*it has .*`{name}.xlsx`"):
        read_directory(directory, SST2)


def test_empty_directory_is_said_to_hold_no_file(tmp_path):
    with pytest.raises(DataError, match="it has no file"):
        read_directory(tmp_path, SST2)


def test_two_files_for_one_split_are_refused_not_chosen_between(directory):
    write_csv(directory / "train.csv")

    with pytest.raises(DataError, match=r"`train.csv` and `train.tsv`; keep only one"):
        read_directory(directory, SST2)


def test_unreadable_file_is_named(directory):
    (directory / "train.tsv").unlink()
    (directory / "train.tsv").mkdir()

    with pytest.raises(DataError, match=r"`.*train.tsv` cannot be read: Is a directory"):
        read_directory(directory, SST2)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.tsv", b"sentence\tlabel\nok\t1\ncaf\xe9\t1\n", r"Line 3 .* not UTF-8 \(byte 0xe9"),
        ("train.tsv", b"", "is empty"),
        ("train.tsv", b" \n\n", "is empty"),
        ("train.tsv", b"sentence\tlabel\n", "holds no examples"),
        ("train.tsv", b"sentence\tlabel\nok\t1\nno tab\n", "Line 3 .* 1 fields, .* header has 2"),
        ("train.tsv", b"sentence\tlabel\n\nok\t1\n", "Line 2 .* 1 fields"),
        ("train.tsv", b"sentence\tlabel\na\tb\t1\n", "Line 2 .* 3 fields"),
        ("train.tsv", b"sentence\tlabel\tlabel\na\t1\t1\n", "names the column `label` twice"),
        (
            "train.tsv",
            b"text\tlabel\na\t1\n",
            "lacks the column `sentence` of task `sst2`.*`text`",
        ),
        (
            "train.tsv",
            b"sentence\tlabel\na\t1\nb\t3\n",
            "Line 3 .* label '3', .* knows `negative`",
        ),
        ("train.tsv", b"sentence\tlabel\na\t\n", "Line 2 .* label ''"),
        ("train.csv", b'sentence,label\na,1\n"b,1\n', "Line 3 .* not valid CSV"),
        ("train.csv", b"sentence,label\na,b,1\n", "Line 2 .* 3 fields"),
        ("train.jsonl", b'{"sentence": "a", "label": 1}\n{"sente\n', "Line 2 .* not valid JSON"),
        ("train.jsonl", b'{"sentence": "\\ud800", "label": 1}\n', "Line 1 .* not valid JSON"),
        ("train.jsonl", b"[1, 2]\n", "Line 1 .* must be a JSON object"),
        (
            "train.jsonl",
            b'{"sentence": "a", "label": 1}\n{"label": 1}\n',
            "Line 2 .*no `sentence`",
        ),
        ("train.jsonl", b'{"sentence": 5, "label": 1}\n', "Line 1 .* text in `sentence`, got 5"),
        ("train.parquet", b"nonsense", "not a Parquet file"),
    ],
)
def test_bad_file_is_one_sentence_with_the_place(directory, file, content, message):
    (directory / "train.tsv").unlink()
    (directory / file).write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        read_directory(directory, SST2)

    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_value_in_parquet_is_refused(directory):
    (directory / "train.tsv").unlink()
    write_parquet(directory / "train.parquet", [("a", "1"), (None, "1")])

    with pytest.raises(DataError, match=r"Line 2 of `.*train.parquet` has no `sentence`"):
        read_directory(directory, SST2)


def test_wide_table_is_not_listed_in_full(directory):
    header = [f"column{index}" for index in range(30)]
    write_tsv(directory / "train.tsv", [header], header)

    with pytest.raises(DataError, match=r"`column7` and 22 more\.$"):
        read_directory(directory, SST2)


class HubSplit(dict):
    @property
    def column_names(self):
        return list(self)


def install_hub(monkeypatch, load_dataset):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_hub_yields_train_and_matched_validation(monkeypatch):
    def load_dataset(name, config):
        assert (name, config) == ("nyu-mll/glue", "mnli")
        split = HubSplit(premise=["a"], hypothesis=["b"], label=[2], idx=[0])
        other = HubSplit(premise=["c"], hypothesis=["d"], label=[1], idx=[0])
        return {"train": split, "validation_matched": other}

    install_hub(monkeypatch, load_dataset)

    train, validation = read_hub(TASKS["mnli"])

    assert train.texts == (("a", "b"),)
    assert train.labels.tolist() == [2]
    assert validation.texts == (("c", "d"),)


@pytest.mark.parametrize("error", [ConnectionError("Couldn't reach it.\nmore"), ValueError("bad")])
def test_hub_out_of_reach_names_the_other_sources(monkeypatch, error):
    def load_dataset(name, config):
        raise error

    install_hub(monkeypatch, load_dataset)

    with pytest.raises(
        DataError, match=r"from the Hub: .*`--data DIR`.*`--data builtin`"
    ) as caught:
        read_hub(SST2)

    assert "\n" not in str(caught.value)


def test_hub_has_no_task_of_a_users_own():
    task = find_task(TaskConfig(name="mine", text_columns=("text",), labels=("a", "b")))

    with pytest.raises(DataError, match="GLUE has no task `mine`"):
        read_hub(task)
