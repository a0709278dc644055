"""Files from strangers: paths that leave their folder, and sizes without end."""

import io
import json
import os

import pytest

from autoprumux.api.places import is_within, known_folders
from autoprumux.errors import ConfigError, StorageError, UsageError
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.storage.artifacts import FolderStore
from autoprumux.study_files import load_study, parse_setting
from autoprumux.toml_text import MAX_BYTES
from trainers.data import streams, tables
from trainers.data.glue import read_directory
from trainers.data.tasks import TASKS, Task
from trainers.errors import DataError

TABLE = "sentence\tlabel\na fine film\t1\n"
SST2 = TASKS["sst2"]
IDENTIFIER = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text(TABLE, encoding="utf-8")
    return folder


def test_a_data_file_that_is_a_link_out_of_its_folder_is_refused(data, tmp_path):
    (tmp_path / "secret.tsv").write_text(TABLE, encoding="utf-8")
    (data / "train.tsv").unlink()
    (data / "train.tsv").symlink_to("../secret.tsv")

    with pytest.raises(DataError, match="is a link that leads out of"):
        read_directory(data, SST2)


def test_a_link_inside_the_folder_is_followed(data):
    (data / "train.tsv").rename(data / "real")
    (data / "train.tsv").symlink_to("real")

    train, _ = read_directory(data, SST2)

    assert len(train) == 1


def test_a_folder_of_a_task_that_is_a_link_out_is_refused(data, tmp_path):
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "SST-2").symlink_to(data)

    with pytest.raises(DataError, match="is a link that leads out of"):
        read_directory(parent, SST2)


@pytest.mark.parametrize("name", ["../data", "..", "/etc", "a/b", "x\0y", "n" * 5000])
def test_the_name_of_a_task_names_no_other_folder(data, tmp_path, name):
    empty = tmp_path / "empty"
    empty.mkdir()
    task = Task(name, ("sentence",), "label", ("0", "1"), {"0": 0, "1": 1})

    with pytest.raises(DataError, match="has no `train` file"):
        read_directory(empty, task)


def test_a_pipe_in_place_of_a_data_file_is_refused(data):
    (data / "train.tsv").unlink()
    os.mkfifo(data / "train.tsv")

    with pytest.raises(DataError, match="is a pipe or a device"):
        read_directory(data, SST2)


@pytest.mark.parametrize(
    "name", ["../base.toml", "/etc/base.toml", "a/../../base.toml", "\0.toml"]
)
def test_a_study_file_extends_none_out_of_its_folder(tmp_path, name):
    (tmp_path / "base.toml").write_text("", encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.toml").write_text(f"extends = {json.dumps(name)}", encoding="utf-8")

    with pytest.raises(ConfigError, match="must name a preset or a file in the folder of this"):
        load_study(str(folder / "mine.toml"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("x = " + "[" * 30 + "]" * 30, "nested too deeply"),
        (".".join("a" * 3000) + " = 1", "a key has more than 16 parts"),
        ("[" + " . ".join(['"a b"'] * 3000) + "]", "a key has more than 16 parts"),
        ("seed = " + "9" * 5000, "does not fit into 64 bits"),
        ("seed = 0x" + "f" * 5000, "does not fit into 64 bits"),
        ("seed = 18446744073709551616", "does not fit into 64 bits"),
        ("#" * (MAX_BYTES + 1), "more than 262144 bytes"),
    ],
    ids=["lists", "few lists", "key", "table", "digits", "hexadecimal", "64 bits", "file"],
)
def test_a_study_file_without_end_is_refused_at_once(tmp_path, text, sentence):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=sentence):
        load_study(str(path))


def test_a_study_file_of_a_million_widths_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f"search.widths = {[1] * 80_000}", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"at most 10000 candidates, got \d+") as caught:
        load_study(str(path))

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000, "0x" + "f" * 5000])
def test_a_setting_without_end_is_refused(value):
    with pytest.raises(ConfigError):
        load_study(overrides=[parse_setting(f"search.seed={value}")])


def test_a_model_of_a_billion_layers_is_refused_before_it_is_made():
    with pytest.raises(ConfigError, match="num_demux_layers"):
        load_study(overrides=[parse_setting("trainer.model.num_demux_layers=1000000000")])


def test_a_line_without_end_is_one_bad_row_of_a_stream(monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_LINE", 100)
    content = b"sentence\nfirst\n" + b"x" * 1000 + b"\nlast\n"

    rows = list(streams.TextStream(io.BytesIO(content), "t", ("sentence",), "tsv", None))

    assert [row.texts for row in rows] == [("first",), (), ("last",)]
    assert rows[1].error is not None
    assert "longer than" in rows[1].error


def test_a_csv_row_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_LINE", 100)
    content = b'sentence\n"' + b"x\n" * 1000

    with pytest.raises(DataError, match="a quotation mark may be missing"):
        list(streams.TextStream(io.BytesIO(content), "t", ("sentence",), "csv", None))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_a_line_without_end_refuses_a_table(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / f"train{suffix}"
    path.write_bytes(b"a\n" + b"x" * (2 << 20))

    with pytest.raises(DataError, match=r"Line 2 of .* has more than 1 MiB"):
        tables.read_table(path)


def test_a_table_larger_than_memory_is_refused_unread(tmp_path):
    path = tmp_path / "train.tsv"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # takes no space

    with pytest.raises(DataError, match=r"has 5\.0 GiB; at most 4 GiB"):
        tables.read_table(path)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_a_table_of_many_columns_is_refused_at_once(tmp_path, suffix):
    names = [f"c{i}" for i in range(20_000)]
    separator = "\t" if suffix == ".tsv" else ","
    text = json.dumps(dict.fromkeys(names, 1)) if suffix == ".jsonl" else separator.join(names)
    path = tmp_path / f"train{suffix}"
    path.write_text(f"{text}\n{text}\n", encoding="utf-8")

    with pytest.raises(DataError, match="20000 columns; at most 1000"):
        tables.read_table(path)


def test_few_bytes_of_parquet_are_not_a_billion_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "train.parquet"
    pq.write_table(
        pa.table({"sentence": pa.nulls(150_000_000), "label": pa.nulls(150_000_000)}), path
    )

    with pytest.raises(DataError, match="more than can be kept in memory"):
        tables.read_table(path)


@pytest.mark.parametrize(
    "row",
    ["0,0,0", "2,nan,0", "1,0", "1,0,99999999999999999999", "1,0,0,\0", "9" * 5000 + ",0,0"],
)
def test_rows_of_a_recording_that_cannot_be_are_named(tmp_path, row):
    (tmp_path / "r.json").write_text(
        json.dumps(
            {"format": 1, "task": "t", "data_fingerprint": "", "trainer": {}, "commands": []}
            | {"environment": {}, "recorded": ""}
        ),
        encoding="utf-8",
    )
    (tmp_path / "r.csv").write_text(f"num_instances,sparsity,seed\n{row}\n", encoding="utf-8")

    with pytest.raises(UsageError, match=r"r\.csv, line \d"):
        load_recording(str(tmp_path / "r.csv"))


@pytest.mark.parametrize("header", ["[" * 5000, '{"format": "\\ud800"}', '{"format": [1]}', "1"])
def test_headers_of_a_recording_that_cannot_be_are_named(tmp_path, header):
    (tmp_path / "r.json").write_text(header, encoding="utf-8")
    (tmp_path / "r.csv").write_text("", encoding="utf-8")

    with pytest.raises(UsageError, match=r"r\.json"):
        load_recording(str(tmp_path / "r.csv"))


@pytest.mark.parametrize(
    "name", [f"../{IDENTIFIER}", "/etc/passwd", "..", "", "report.html", f"{IDENTIFIER}\n"]
)
def test_artifacts_have_no_other_names(tmp_path, name):
    from optuna.artifacts.exceptions import ArtifactNotFound

    store = FolderStore(tmp_path)

    with pytest.raises(ArtifactNotFound):
        store.open_reader(name)
    with pytest.raises(ArtifactNotFound):
        store.remove(name)
    with pytest.raises(StorageError, match="is no plain file"):
        store.write(name, io.BytesIO(b"x"))


def test_links_among_artifacts_are_neither_read_nor_written(tmp_path):
    from optuna.artifacts.exceptions import ArtifactNotFound

    secret = tmp_path / "secret"
    secret.write_text("mine", encoding="utf-8")
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / IDENTIFIER).symlink_to(secret)
    store = FolderStore(folder)

    with pytest.raises(ArtifactNotFound):
        store.open_reader(IDENTIFIER)
    with pytest.raises(StorageError, match="is no plain file"):
        store.write(IDENTIFIER, io.BytesIO(b"theirs"))
    assert secret.read_text(encoding="utf-8") == "mine"


def test_plain_artifacts_are_kept(tmp_path):
    store = FolderStore(tmp_path)
    store.write(IDENTIFIER, io.BytesIO(b"x"))

    with store.open_reader(IDENTIFIER) as file:
        assert file.read() == b"x"
    store.remove(IDENTIFIER)
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_looked_for_in_known_folders_only(tmp_path):
    cache, beside, elsewhere = (tmp_path / name for name in ("cache", "studies", "elsewhere"))
    for folder in (cache, beside, elsewhere):
        (folder / "model").mkdir(parents=True)
    (cache / "link").symlink_to(elsewhere)
    folders = known_folders(f"sqlite:///{beside}/study.db", cache)

    assert is_within(str(cache / "model"), folders)
    assert is_within(str(beside / "model"), folders)
    for path in (
        elsewhere / "model",
        cache / ".." / "elsewhere" / "model",
        cache / "link" / "model",
        cache,
    ):
        assert not is_within(str(path), folders)
    assert not is_within("", folders)
    assert not is_within("a\0b", folders)
