"""A real PostgreSQL server (Debian's) on loopback: its own data folder, port and passwords, gone with the tests.

Its databases sort text as English does (ICU en-US) and not by code point, so that a query whose answer hangs on the
collation is seen. Nothing is forced to disk: it is quick, and what the tests kill is the server, not the machine."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.standins.sshd import free_port

ADMIN = "admin"
OWNER = "harness"
#: with everything that must be quoted in a URL; wherever it is told, in whatever form, a test must fail
PASSWORD = "s3cret@:/%? w0rd"
#: what of the password survives any quoting: no message may contain one of these
TELLTALES = ("s3cret", "w0rd")


def _binaries() -> Path | None:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found and (initdb := shutil.which("initdb")):
        found = [Path(initdb).resolve().parent]
    return max(found, key=_version, default=None)


def _version(binaries: Path) -> int:
    told = subprocess.run([str(binaries / "initdb"), "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.search(r"(\d+)", told)
    return int(found[1]) if found else 0


def why_no_postgres() -> str | None:
    """What is missing for a server here, or None."""
    if _binaries() is None:
        return "there is no PostgreSQL server here; apt-get install postgresql"
    if os.getuid() == 0 and _other_user() is None:
        return "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody"
    return None


def _other_user() -> str | None:
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


class Postgres:
    """`postgres()`: the URL of a fresh, empty database that the role `harness` owns (it is no superuser)."""

    def __init__(self, folder: Path) -> None:
        binaries = _binaries()
        assert binaries is not None
        self._binaries, self._folder, self.port = binaries, folder, free_port()
        self._user = _other_user() if os.getuid() == 0 else None
        self._admin_password = secrets.token_hex(16)
        self._names = itertools.count(1)
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._init()
        self._guard = self._guarded()
        try:
            self.start()
            self.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
        except BaseException:
            self.close()
            raise

    def __call__(self, *, exists: bool = True) -> str:
        """`exists=False`: of a database that nobody has made."""
        name = f"team{next(self._names)}"
        if exists:
            self.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        return self.url(name)

    def url(self, database: str, role: str = OWNER, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{role}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def reader(self, url: str) -> str:
        """The same store for a role that may read what is there now, and write nothing."""
        database = database_of(url)
        role = f"reader_{database}"
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        self.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", database)
        return self.url(database, role)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """As the server's administrator."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=self._admin_password, dbname=database,
            autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self._folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """`fast`: every connection is ended as by an administrator; `immediate`: as by a crash."""
        self._run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", str(self._data))

    @contextmanager
    def stopped(self, mode: str = "fast") -> Iterator[None]:
        self.stop(mode)
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def restarted(self, down_s: float, mode: str = "fast") -> Iterator[None]:
        """It goes down now, and comes back by itself after `down_s` seconds, while the block goes on."""
        self.stop(mode)
        back = threading.Timer(down_s, self.start)
        back.start()
        try:
            yield
        finally:
            back.join()

    def close(self) -> None:
        """Ends the server and its folder, as the guard does for tests that were killed."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(timeout=60)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _init(self) -> None:
        password = self._folder / "password"
        password.write_text(self._admin_password)
        if self._user is not None:
            shutil.chown(password, self._user)
        english = ("--locale-provider", "icu", "--icu-locale", "en-US") if _version(self._binaries) >= 15 else ()
        self._run(
            "initdb", "-D", str(self._data), "-U", ADMIN, "--pwfile", str(password), "-A", "scram-sha-256",
            "-E", "UTF8", "--locale", "C.UTF-8", *english, "--no-sync",
        )  # fmt: skip
        password.unlink()
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "max_connections = 60\nfsync = off\nfull_page_writes = off\n"
                "shared_buffers = 32MB\nautovacuum = off\ndynamic_shared_memory_type = mmap\n"
            )

    def _guarded(self) -> subprocess.Popen[bytes]:
        """Waits for the end of its input, which comes with the end of the tests however they end."""
        stop = f'cat >/dev/null; "{self._binaries}/pg_ctl" stop -m immediate -D "$0/data"; cd /; rm -rf "$0"'
        return subprocess.Popen(
            ["sh", "-c", stop, str(self._folder)], user=self._user, cwd="/", stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments], user=self._user, cwd="/", env=_environment(self._folder),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120,
            start_new_session=True,
        )  # fmt: skip
        if done.returncode != 0:
            with suppress(OSError):
                done.stderr += (self._folder / "log").read_text()[-2000:]
            raise RuntimeError(f"{program} of the PostgreSQL stand-in: {done.stderr}")


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": str(folder), "TZ": "UTC"}


def database_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


def wait_for(condition: Any, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


def _roomy() -> str | None:
    """Memory where there is plenty: some hundred databases are 20,000 files, and disks take long to forget them."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 4 << 30 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server, and by calling it the URL of a fresh database of it."""
    if (reason := why_no_postgres()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="harness-postgres-", dir=_roomy(), ignore_cleanup_errors=True) as made:
        server = Postgres(Path(made))
        try:
            yield server
        finally:
            server.close()
