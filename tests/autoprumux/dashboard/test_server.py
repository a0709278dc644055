"""Who may ask the server for what; nothing listens to a port that others could use."""

import http.client
import json
import socket
import threading

import pytest

from autoprumux.dashboard.server import address_of, make_dashboard
from autoprumux.errors import UsageError
from autoprumux.storage.artifacts import Artifacts


@pytest.fixture
def server(made):
    artifacts = Artifacts(made.folder, made.storage)
    made_server = make_dashboard(made.storage, artifacts.store, host="127.0.0.1", port=0)
    thread = threading.Thread(target=made_server.serve_forever, daemon=True)
    thread.start()
    yield made_server
    made_server.shutdown()
    made_server.server_close()
    thread.join()


def ask(server, method, path, *, host="localhost", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    headers = {"Host": f"{host}:{server.server_port}", "Content-Type": "application/json"}
    connection.request(method, path, body and json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def test_studies_are_shown(server, made):
    status, content = ask(server, "GET", "/api/studies")

    names = [study["study_name"] for study in json.loads(content)["study_summaries"]]
    assert status == 200
    assert names[0] == "qnli-embedded"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/studies/1", {}),
        ("DELETE", "/api/studies/1/", {}),
        ("POST", "/api/studies/1/rename", {"study_name": "other"}),
        ("POST", "/api/studies", {"study_name": "other", "directions": ["minimize"]}),
    ],
)
def test_studies_are_neither_made_nor_renamed_nor_deleted(server, made, method, path, body):
    status, content = ask(server, method, path, body=body)

    assert status == 403
    assert "not made, renamed or deleted" in json.loads(content)["reason"]
    assert made.study().study_name == "qnli-embedded"


def test_a_page_of_another_site_that_points_its_name_here_is_refused(server):
    assert ask(server, "GET", "/api/studies", host="evil.com")[0] == 403
    assert ask(server, "GET", "/api/studies", host="127.0.0.1")[0] == 200


@pytest.mark.parametrize("path", ["..%2f..%2fstudy.db", "../study.db", "%2e%2e/study.db"])
def test_no_path_leads_out_of_the_folder(server, path):
    status, content = ask(server, "GET", f"/artifacts/1/{path}")

    assert status == 404
    assert b"SQLite format" not in content


def test_a_port_in_use_is_refused(made):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(UsageError, match=rf"^Port {port} of 127\.0\.0\.1 is in use\. Try"):
            make_dashboard(made.storage, None, host="127.0.0.1", port=port)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 99999, r"`--port` must be in 0 to 65535, got 99999\."),
        ("no.such.host.invalid", 0, "`--host` no.such.host.invalid, `--port` 0 cannot be"),
    ],
)
def test_an_address_that_cannot_be_is_refused(made, host, port, message):
    with pytest.raises(UsageError, match=message):
        make_dashboard(made.storage, None, host=host, port=port)


@pytest.mark.parametrize(
    ("host", "study_id", "begin", "end"),
    [
        ("localhost", 3, "http://localhost:", "/dashboard/studies/3"),
        ("0.0.0.0", None, "http://localhost:", "/dashboard"),
        ("::1", None, "http://[::1]:", "/dashboard"),
    ],
)
def test_the_address_can_be_opened(server, host, study_id, begin, end):
    assert address_of(server, host, study_id) == f"{begin}{server.server_port}{end}"
