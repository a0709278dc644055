"""A PostgreSQL server of one's own: a new cluster in a temporary folder, loopback only."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

PASSWORD = "not-a-secret"

FAST = ("fsync=off", "full_page_writes=off", "max_connections=200")
"""Nothing here has to survive a power cut; what was committed survives a crash of the server."""


class NoServerError(Exception):
    """No server can be started here; the text says why."""


@dataclass(frozen=True)
class Server:
    """A server that runs unless it was stopped."""

    programs: Path
    folder: Path
    user: pwd.struct_passwd | None
    port: int

    @property
    def url(self) -> sa.URL:
        """URL of its first database."""
        return sa.URL.create(
            "postgresql", "tester", PASSWORD, "127.0.0.1", self.port, database="postgres"
        )

    def stop(self) -> None:
        """End it and all its connections at once, as a crash does."""
        places = ["-D", str(self.folder / "data"), "-m", "immediate"]
        _run([str(self.programs / "pg_ctl"), *places, "-w", "stop"], self.user)

    def start(self) -> None:
        """Start it again on the same port."""
        _start_at(self.port, self.programs, self.folder, self.user)


@contextmanager
def running_server() -> Iterator[sa.URL]:
    """Start a server on a free port and yield the URL of its first database.

    Raises:
        NoServerError: If PostgreSQL is not installed, or root finds no other user to run it as.
    """
    with stoppable_server() as server:
        yield server.url


@contextmanager
def stoppable_server() -> Iterator[Server]:
    """Start a server on a free port that a test may stop and start; it must run in the end.

    Raises:
        NoServerError: See `running_server`.
    """
    programs = _find_programs()
    user = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="autoprumux-postgresql-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = Server(programs, folder, user, _start(programs, folder, user))
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(server: sa.URL, name: str) -> Iterator[str]:
    """Make an empty database, yield its URL with the password, and drop it."""
    engine = sa.create_engine(
        server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield server.set(database=name).render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def _find_programs() -> Path:
    """Yield the folder of `initdb` and `pg_ctl`; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        raise NoServerError("PostgreSQL is not installed (`apt-get install postgresql`)")
    return versions[-1].parent


def _other_user() -> pwd.struct_passwd | None:
    """Yield whom to start the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError("PostgreSQL refuses root, and there is no user `postgres` or `nobody`")


def _start(programs: Path, folder: Path, user: pwd.struct_passwd | None) -> int:
    """Make a cluster in `folder`, start its server and yield the port."""
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ["--username=tester", "--auth=scram-sha-256", f"--pwfile={password}"]
    places = ["-D", str(folder / "data"), "--no-sync", "--encoding=UTF8", "--no-locale"]
    _run([str(programs / "initdb"), *places, *options], user)
    for attempt in range(5):
        port = _free_port()
        try:
            _start_at(port, programs, folder, user)
        except NoServerError:
            if attempt == 4:
                raise
        else:
            return port
    raise AssertionError


def _start_at(port: int, programs: Path, folder: Path, user: pwd.struct_passwd | None) -> None:
    settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=''"]
    words = " ".join(f"-c {setting}" for setting in (*settings, *FAST))
    start = ["-D", str(folder / "data"), "-l", str(folder / "log"), "-w", "-t", "120"]
    _run([str(programs / "pg_ctl"), *start, "-o", words, "start"], user)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str], user: pwd.struct_passwd | None) -> None:
    options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    done = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server
        stderr=subprocess.PIPE if "start" not in command else subprocess.DEVNULL,
        text=True,
        timeout=300,
        **options,  # type: ignore[call-overload]  # only what it takes
    )
    if done.returncode != 0:
        raise NoServerError(f"`{' '.join(command)}` failed: {done.stderr or 'see its log'}")
