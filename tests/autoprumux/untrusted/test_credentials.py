"""Passwords in addresses reach no error, log, traceback, report or note."""

import logging
import subprocess
import sys

import pytest

from autoprumux.dashboard.notes import study_note
from autoprumux.masking import (
    MaskingFormatter,
    fit_for_print,
    mask_addresses,
    printable,
    secrets_in,
)
from autoprumux.report.page.provenance import commands

SECRET = "hunter2%40home"
URL = f"postgresql://me:{SECRET}@127.0.0.1:1/studies?connect_timeout=1&sslpassword=s3cr3t"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:pass@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@s/s:w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:pass@host", "postgresql://:***@host"),
        ("x://h/d?a=1&password=pass&b=2", "x://h/d?a=1&password=***&b=2"),
        ("x://h/d?SSLPassword=pass", "x://h/d?SSLPassword=***"),
        ("clone https://ghp_token@github.com/x", "clone https://***@github.com/x"),
        ("'x://a:b@h' and 'y://c:d@i'", "'x://a:***@h' and 'y://c:***@i'"),
        ("sqlite:///a@b/c.db", "sqlite:///a@b/c.db"),
        ("nothing: to@hide", "nothing: to@hide"),
    ],
)
def test_passwords_in_addresses_are_hidden(text, hidden):
    assert mask_addresses(text) == hidden


def test_a_known_password_is_hidden_as_written_and_decoded():
    secrets = secrets_in(URL)

    assert fit_for_print("authentication of hunter2@home failed", secrets) == (
        "authentication of *** failed"
    )
    assert "s3cr3t" not in fit_for_print("sslpassword s3cr3t is wrong", secrets)


def test_control_characters_are_spelt_out():
    assert printable("a\x1b[2Jb\u202ec\nd") == "a\\x1b[2Jb\\u202ec\nd"


def test_a_logged_traceback_hides_passwords():
    try:
        raise ValueError(f"could not connect to {URL}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "at %s", (URL,), sys.exc_info())

    text = MaskingFormatter("%(message)s").format(record)

    assert "Traceback" in text
    assert SECRET not in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
@pytest.mark.parametrize("command", [("query",), ("report",), ("dashboard", "--no-open")])
@pytest.mark.parametrize("url", [URL, f"postgresql://me:{SECRET}@[bad/db", f"x:{URL}"])
def test_no_command_tells_the_password(run, command, url, verbose):
    ended = run(*command, "--storage", url, *verbose)

    assert ended.code in (1, 2)
    for secret in (SECRET, "hunter2@home", "s3cr3t"):
        assert secret not in ended.out + ended.err


def test_a_mistake_of_ours_does_not_tell_it_either():
    script = (
        "import sys; from autoprumux.cli import main; from autoprumux.api import stored\n"
        "def fail(*_, **__): raise KeyError('no ' + sys.argv[3])\n"
        "stored.query = fail; main.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "query", "--storage", URL], capture_output=True, text=True
    )

    assert ended.returncode != 0
    assert "KeyError" in ended.stderr
    assert "sslpassword=***" in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout


def test_the_commands_of_reports_and_notes_have_the_masked_address(demo_study):
    masked = mask_addresses(URL)

    for text in (*commands(demo_study, masked, 0.02), study_note(demo_study, (0.02,), masked)):
        assert SECRET not in text
