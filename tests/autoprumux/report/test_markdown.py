import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprumux.report.markdown import code_block, escape, table


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert)",
        "![x](http://a.b/c.png)",
        "`code` *bold* _it_ ~no~ # head > quote",
        "a | b",
        "&lt;b&gt;",
        "http://evil.com me@evil.com www.evil.com",
    ],
)
def test_marks_that_could_begin_markup_are_escaped(text):
    shown = escape(text)

    assert re.search(r"(?<!\\)[<>\[\]!`*_~#|&/@]", shown) is None
    read = re.sub(r"\\(.)", r"\1", shown)
    assert not re.search(r"www\.|https?://|\w@", read)
    assert read.replace("\u2060", "") == text


@given(st.text())
def test_any_text_is_one_line_without_open_markup(text):
    shown = escape(text)

    assert "\n" not in shown
    unescaped = re.sub(r"\\[^A-Za-z0-9\s]", "", shown)
    assert not set(unescaped) & set("<>[]!`*_~#|&/@\\")
    assert html.escape(unescaped, quote=False) == unescaped


def test_a_table_keeps_its_columns_whatever_its_entries_hold():
    lines = table(("a|b", "c"), [("x\ny", "|")]).splitlines()

    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3]


def test_a_block_of_code_cannot_be_ended_by_its_content():
    block = code_block(["echo ````", "<b>"]).splitlines()

    assert block[0] == "`````sh"
    assert block[-1] == "`````"
    assert block[1:-1] == ["echo ````", "<b>"]
