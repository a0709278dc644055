import csv
import io
import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data import streams
from trainers.data.streams import TextRow, open_texts
from trainers.errors import DataError


@pytest.fixture
def write(tmp_path):
    def run(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return run


def read(path, *columns, file_format=None):
    with open_texts(path, columns, file_format) as stream:
        return list(stream)


def test_tsv_rows_come_with_their_lines_in_the_order_of_the_columns(write):
    path = write("a.tsv", 'id\ta\tb\n1\tone "quote\tzwei\r\n2\t\tlast')

    assert read(path, "b", "a") == [TextRow(2, ("zwei", 'one "quote')), TextRow(3, ("last", ""))]


def test_a_bad_row_of_tsv_keeps_its_place(write):
    path = write("a.tsv", b"id\ta\n1\tone\n2\n3\tbad \xff byte\n\n4\t\xc3\xa4\n5\tx\ty\n6\tlast\n")

    assert read(path, "a") == [
        TextRow(2, ("one",)),
        TextRow(3, (), "1 fields, but the header has 2"),
        TextRow(4, (), "not UTF-8 (byte 0xff)"),
        TextRow(5, (), "1 fields, but the header has 2"),
        TextRow(6, ("ä",)),
        TextRow(7, (), "3 fields, but the header has 2"),
        TextRow(8, ("last",)),
    ]


def test_an_empty_line_of_one_column_is_an_empty_text(write):
    for suffix in ("tsv", "csv"):
        assert read(write(f"a.{suffix}", "a\none\n\ntwo\n"), "a") == [
            TextRow(2, ("one",)),
            TextRow(3, ("",)),
            TextRow(4, ("two",)),
        ]


def test_csv_fields_may_span_lines(write):
    path = write("a.csv", '\ufeffa,b\r\n"one, ""two""\nthree",x\r\nfour,y\r\n')

    assert read(path, "a") == [TextRow(2, ('one, "two"\nthree',)), TextRow(4, ("four",))]


def test_a_bad_row_of_csv_keeps_its_place(write):
    path = write("a.csv", b'a,b\n"x"y,1\nok,2\nbad \xfe,3\nfine,\xff\none\n\nlast,4\n"open,5\nno')

    assert read(path, "a") == [
        TextRow(2, (), "not valid CSV: ',' expected after '\"'"),
        TextRow(3, ("ok",)),
        TextRow(4, (), "not UTF-8 (byte 0xfe)"),
        TextRow(5, (), "not UTF-8 (byte 0xff)"),
        TextRow(6, (), "1 fields, but the header has 2"),
        TextRow(7, (), "1 fields, but the header has 2"),
        TextRow(8, ("last",)),
        TextRow(9, (), "not valid CSV: unexpected end of data, read up to line 10"),
    ]


def test_a_field_longer_than_the_limit_of_python_is_read(write):
    text = "word " * 40_000

    assert read(write("a.csv", f"a\n{text}\n"), "a") == [TextRow(2, (text,))]


def test_a_bad_row_of_jsonl_keeps_its_place(write):
    rows = [b'{"a": "one"}', b"{", b'{"b": 1}', b'{"a": 3}', b"[]", b"\xff", b"", b'{"a": ""}']

    found = read(write("a.jsonl", b"\n".join(rows)), "a")

    assert [row.line for row in found] == list(range(1, 9))
    assert [row.texts for row in found] == [("one",), (), (), (), (), (), (), ("",)]
    errors = [row.error for row in found]
    assert errors[0] is None
    assert errors[1].startswith("not valid JSON: ")
    assert errors[2:6] == [
        "no `a`",
        "`a` must be text, got 3",
        "not a JSON object but list",
        "not UTF-8 (byte 0xff)",
    ]
    assert errors[6].startswith("not valid JSON: ")
    assert errors[7] is None


def test_a_row_of_jsonl_that_nests_too_deep_is_an_error(write):
    (row,) = read(write("a.jsonl", '{"a":' + "[" * 100_000), "a")

    assert row.error.startswith("not valid JSON: ")


def test_parquet_rows_come_with_their_numbers(tmp_path, monkeypatch):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 2)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["one", None, "", "four", "five"], "b": [1, 2, 3, 4, 5]}), path)

    assert read(str(path), "a") == [
        TextRow(1, ("one",)),
        TextRow(2, (), "no `a`"),
        TextRow(3, ("",)),
        TextRow(4, ("four",)),
        TextRow(5, ("five",)),
    ]
    assert {row.error for row in read(str(path), "b")} >= {"`b` must be text, got 1"}


@given(rows=st.lists(st.tuples(st.text(), st.text())))
def test_what_is_written_as_csv_or_jsonl_is_read_back(rows, tmp_path_factory):
    rows = [row for row in rows if "\r" not in "".join(row) and "\x00" not in "".join(row)]
    folder = tmp_path_factory.mktemp("texts")
    table = io.StringIO()
    csv.writer(table).writerows([("a", "b"), *rows])
    (folder / "a.csv").write_bytes(table.getvalue().encode())
    lines = [json.dumps({"a": a, "b": b}) for a, b in rows]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")

    for name in ("a.csv", "a.jsonl"):
        assert [row.texts for row in read(str(folder / name), "a", "b")] == rows


def test_standard_input_is_read_in_the_format_asked_for(monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(b"a\none\n"))
    monkeypatch.setattr(sys, "stdin", stdin)

    assert read("-", "a", file_format="tsv") == [TextRow(2, ("one",))]


def test_a_format_asked_for_goes_before_the_suffix(write):
    assert read(write("a.txt", "a\none\n"), "a", file_format="tsv") == [TextRow(2, ("one",))]
    assert read(write("B.TSV", "a\none\n"), "a") == [TextRow(2, ("one",))]


def test_progress_is_counted_in_bytes(write):
    path = write("a.tsv", "a\n" + "one\n" * 10)
    with open_texts(path, ["a"]) as stream:
        before = stream.num_done
        rows = iter(stream)
        next(rows)
        after = stream.num_done
        list(rows)

    assert (before, after) == (2, 6)
    assert stream.num_done == stream.size == 42


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", "has no header"),
        ("a.csv", "\n", "has no header"),
        ("a.tsv", b"\xff\n", "The header of .* is not UTF-8 \\(byte 0xff\\)"),
        ("a.tsv", "b\tc\n", "lacks the column `a`; it has `b`, `c`. .* `--columns`"),
        ("a.csv", "a,a\n", "has more than once the column `a`"),
        ("a.csv", '"a\n', "The header of .* is not valid CSV"),
        ("a.parquet", "no", "is not a Parquet file"),
        ("a.txt", "", "The format of `.*a.txt` is unknown; choose `--format` from tsv, csv,"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(write, name, content, message):
    with pytest.raises(DataError, match=message):
        open_texts(write(name, content), ["a"])


def test_a_missing_file_a_folder_and_parquet_from_a_pipe_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_texts(str(tmp_path / "no.tsv"), ["a"])
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        open_texts(str(tmp_path), ["a"], "tsv")
    with pytest.raises(DataError, match="Parquet cannot be read from standard input"):
        open_texts("-", ["a"], "parquet")


def test_no_row_and_no_line_is_no_fault(write):
    assert read(write("a.tsv", "a\n"), "a") == []
    assert read(write("a.jsonl", ""), "a") == []
