"""`autoprumux predict`, on a tiny random model; needs torch."""

import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from dataclasses import replace

import torch
from small_encoders import SMALL
from typer.testing import CliRunner

import autoprumux.cli.predict as command
from autoprumux.api.predict import PredictOptions, predict_file
from autoprumux.cli.main import app
from autoprumux.errors import PredictionError, UsageError
from trainers.models.checkpoints import save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.sources import load_tokenizer
from trainers.serving import predict as serving

SHAPE = replace(SMALL, max_positions=16, num_instances=5, dropout=0.0, embed_mode="single_pass")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder):
    """A directory as an export leaves it."""
    torch.manual_seed(0)
    save_model(MuxedBert(SHAPE), Path("model"), load_tokenizer("builtin"))
    describe(text_columns=["text"], max_length=16)
    return Path("model")


def describe(**words):
    path = Path("model/config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | words), encoding="utf-8")


def write_table(*rows, name="in.tsv", header=b"id\ttext"):
    Path(name).write_bytes(b"\n".join([header, *rows]) + b"\n")
    return name


def run(*arguments, **options):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], **options)


def read_labels(name="out.tsv"):
    header, *rows = Path(name).read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]


GOOD = [b"%d\tthe film number %d was dull" % (row, row) for row in range(23)]


def test_every_row_gets_a_label_in_order(model):
    write_table(*GOOD)

    found = run(model, "in.tsv", "-o", "out.tsv")

    assert found.exit_code == 0, found.stderr
    rows = read_labels()
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 24)]
    assert {row["label"] for row in rows} <= {"bad", "good"}
    assert all(float(row["probability"]) >= 0.5 and row["error"] == "" for row in rows)
    assert found.stdout == ""
    assert re.fullmatch(
        r"23 of 23 rows labelled in \d[\d.]*s, \d+ seq/s \(N=5, torch, cpu; \d+ % padding\)\n",
        found.stderr,
    )


def test_faulty_rows_are_reported_and_the_others_labelled(model):
    write_table(GOOD[0], b"only", b"2\tbad \xff", b"3\t", b"4\t" + b"the " * 30, GOOD[1])

    found = run(model, "in.tsv", "-o", "out.tsv")

    assert found.exit_code == 1
    rows = read_labels()
    assert [bool(row["label"]) for row in rows] == [True, False, False, True, True, True]
    assert rows[1]["error"] == "1 fields, but the header has 2"
    assert found.stderr.splitlines()[:-1] == [
        "line 3: 1 fields, but the header has 2",
        "line 4: not UTF-8 (byte 0xff)",
        "2 rows without a label",
        "1 row labelled with an empty text: line 5",
        "1 row longer than 16 tokens, labelled by the beginning: line 6",
    ]


@pytest.mark.parametrize("arguments", [["-o", "out.tsv"], []])
def test_strict_writes_nothing_for_one_faulty_row(model, monkeypatch, arguments):
    monkeypatch.setattr(serving, "WINDOW_ROWS", 5)
    write_table(*GOOD, b"only")

    found = run(model, "in.tsv", "--strict", *arguments)

    assert found.exit_code == 1
    assert found.stdout == ""
    assert "error: Line 25 of `in.tsv` cannot be labelled: 1 fields" in found.stderr
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["in.tsv", "model"]


def test_strict_labels_a_file_without_fault(model):
    write_table(*GOOD)
    run(model, "in.tsv", "-o", "out.tsv")

    found = run(model, "in.tsv", "--strict")

    assert found.exit_code == 0
    assert found.stdout == Path("out.tsv").read_text(encoding="utf-8")


def test_all_formats_give_the_same_labels(model):
    texts = [row.split(b"\t")[1].decode() for row in GOOD]
    write_table(*GOOD)
    write_table(*(text.encode() for text in texts), name="in.csv", header=b"text")
    Path("in.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts), "utf-8")

    for suffix in ("tsv", "csv", "jsonl"):
        assert run(model, f"in.{suffix}", "-o", f"out.{suffix}").exit_code == 0

    labels = [row["label"] for row in read_labels()]
    lines = Path("out.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == labels
    objects = map(json.loads, Path("out.jsonl").read_text(encoding="utf-8").splitlines())
    assert [item["label"] for item in objects] == labels


def test_standard_input_goes_to_standard_output(model):
    table = b"\n".join([b"id\ttext", *GOOD]) + b"\n"
    write_table(*GOOD)
    run(model, "in.tsv", "-o", "out.tsv")

    found = run(model, "-", "--format", "tsv", input=table)

    assert found.exit_code == 0
    assert found.stdout == Path("out.tsv").read_text(encoding="utf-8")


def test_json_summarises_what_was_written(model):
    write_table(*GOOD, b"only")

    found = run(model, "in.tsv", "-o", "out.jsonl", "--json", "--all-probabilities")

    summary = json.loads(found.stdout)
    assert (summary["num_rows"], summary["num_labelled"]) == (24, 23)
    assert summary["unlabelled_lines"] == [25]
    assert 0 < summary["padding_share"] < 1
    first = json.loads(Path("out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(first["probabilities"]) == {"bad", "good"}


def test_columns_and_length_that_the_directory_does_not_tell(model):
    describe(text_columns=[], max_length=None)
    write_table(*GOOD)

    refused = run(model, "in.tsv", "-o", "out.tsv")
    found = run(model, "in.tsv", "-o", "out.tsv", "--columns", "text")

    assert refused.exit_code == 2
    assert "does not name the columns with the texts; name them" in refused.stderr
    assert found.exit_code == 0
    assert "rows were cut at 16 tokens, the longest that the model takes" in found.stderr
    assert "rows were cut" not in run(
        model, "in.tsv", "-o", "out.tsv", "--columns", "text", "--max-length", "8"
    ).stderr.replace("labelled by", "")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["model", "in.tsv", "--json"], 2, "`--json` prints where the labels go"),
        (["model", "in.tsv", "-o", "out.txt"], 2, "`--out` must end in one of .tsv"),
        (["model", "in.tsv", "-o", "in.tsv"], 2, "must be another file than the table"),
        (["model", "in.tsv", "-o", "no/out.tsv"], 2, "`no/out.tsv` cannot be written"),
        (["model", "in.tsv", "--columns", "a,b,c"], 2, "must be one or two names, got 3"),
        (["model", "in.tsv", "--columns", "id,text"], 2, "was trained on 1 texts in a row (text)"),
        (["model", "in.tsv", "--columns", "words"], 1, "lacks the column `words`; it has `id`"),
        (["model", "in.tsv", "--max-length", "17"], 2, "`--max-length` must be at most 16"),
        (["model", "in.tsv", "--batch-size", "0"], 2, "`--batch-size` must be at least 1"),
        (["model", "in.tsv", "--backend", "jax"], 2, "`--backend` must be `torch` or `onnx`"),
        (["model", "in.tsv", "--device", "tpu"], 2, "`--device` must be `auto`, `cpu` or `cuda`"),
        (["model", "-"], 1, "choose `--format` from tsv, csv, jsonl, parquet"),
        (["model", "no.tsv"], 1, "`no.tsv` cannot be read: No such file"),
        (
            ["nowhere", "in.tsv"],
            1,
            "`nowhere` is no model directory: there is no such folder. Name",
        ),
        ([".", "in.tsv"], 1, "`.` is no model directory: there is no `config.json`. Name one"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(model, arguments, exit_code, message):
    write_table(*GOOD)
    before = Path("in.tsv").read_bytes()

    found = run(*arguments)

    assert found.exit_code == exit_code, found.output
    assert message in found.stderr
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
    assert Path("in.tsv").read_bytes() == before
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["in.tsv", "model"]


def test_ctrl_c_leaves_no_file(model, monkeypatch):
    write_table(*GOOD)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "make_batches", stop)

    found = run(model, "in.tsv", "-o", "out.tsv")

    assert found.exit_code == 130
    assert found.stderr == "\nStopped. No file is written.\n"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["in.tsv", "model"]


def test_the_python_function_raises_our_errors(model):
    write_table(b"only")

    with pytest.raises(PredictionError, match=r"Line 2 of `in.tsv`"):
        predict_file(model, "in.tsv", "out.tsv", PredictOptions(is_strict=True))
    with pytest.raises(UsageError, match="`--batch-size`"):
        predict_file(model, "in.tsv", "out.tsv", PredictOptions(batch_size=-1))


def test_a_reader_that_goes_away_ends_the_command_quietly(model):
    write_table(*GOOD * 200)
    program = f"{sys.executable} -m autoprumux predict model in.tsv | head -n 1"

    found = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)

    assert found.stdout == "row\tlabel\tprobability\terror\n"
    assert "Traceback" not in found.stderr


def test_the_command_is_imported_without_torch():
    program = "import sys, autoprumux.cli.predict; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_options_default_to_those_of_python():
    parameters = inspect.signature(command.predict).parameters

    for name in ("backend", "device", "max_length", "batch_size", "file_format"):
        assert parameters[name].default == getattr(PredictOptions(), name)


def test_a_stream_of_bytes_that_ends_without_a_line_end_is_whole(model, monkeypatch):
    stdin = io.BytesIO(b"text\nthe film")

    found = run(model, "-", "--format", "csv", input=stdin.getvalue())

    assert found.exit_code == 0
    assert len(found.stdout.splitlines()) == 2
