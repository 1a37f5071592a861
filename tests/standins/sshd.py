"""A real OpenSSH server on loopback as the device of `ssh://`: its own keys, its own known_hosts, its own port.

Nothing of this computer's own SSH set-up is read or changed. In front of the server stands a small relay, so that
the link can stall or break as Wi-Fi does, while the server and what it started live on."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

_SERVER = "/usr/sbin/sshd"  # by its full path: it starts itself again for each connection


def why_no_sshd() -> str | None:
    """What is missing for a stand-in here, or None."""
    if not Path(_SERVER).is_file():
        return "there is no OpenSSH server here; apt-get install openssh-server"
    if shutil.which("ssh-keygen") is None:
        return "there is no ssh-keygen here; apt-get install openssh-client"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relay:
    """Passes bytes between a port of its own and `target`, until it is told not to."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told: a device out of reach."""
        self._flowing.clear()

    def drop(self) -> None:
        """Every connection ends, new ones are closed at once: a device that reboots."""
        self._refusing = True
        self._end_all()

    def mend(self) -> None:
        """What was stalled is over, as after a real outage of minutes; new connections pass."""
        if not self._flowing.is_set():
            self._end_all()
        self._refusing = False
        self._flowing.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._flowing.set()
        self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 18):
                self._flowing.wait()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                with self._lock:
                    self._sockets.discard(one)
            sink.close()


class Sshd:
    """`with Sshd() as device:` — `device.uri` is for `--device`, `device.config` for HARNESS_SSH_CONFIG.

    `extra`: more lines for sshd_config. `name`: the alias in `device.config`; `NAME-jump` is the same server, reached
    through itself."""

    def __init__(self, name: str = "standin", extra: str = "") -> None:
        self.alias, self.user = name, getpass.getuser()
        self.extra = extra
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self.folder = Path(tempfile.mkdtemp(prefix="harness-sshd-"))  # mode 0700, and short: sockets may live there
        self.direct_port = free_port()
        self.relay = Relay(self.direct_port)
        self.port = self.relay.port
        self._new_key("client")
        self._new_key("host")
        shutil.copy(self.folder / "client.pub", self.folder / "authorized_keys")
        self.config = self.folder / "ssh_config"
        self.known_hosts = self.folder / "known_hosts"
        self._write_client()
        self.trust()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.relay.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def direct_uri(self) -> str:
        """Without the relay, which costs time: for what is timed."""
        return f"ssh://{self.user}@127.0.0.1:{self.direct_port}"

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it drops its privileges
        (self.folder / "sshd_config").write_text(
            f"Port {self.direct_port}\n"
            "ListenAddress 127.0.0.1\n"
            f"HostKey {self.folder}/host\n"
            "PidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "UsePAM no\n"
            "StrictModes no\n"  # temporary folders are often writable for the group
            "PermitRootLogin prohibit-password\n"
            "UseDNS no\n"
            "PrintMotd no\n"
            "MaxStartups 100\n"
            "SetEnv SHLVL=1\n"  # else bash reads the login's own .bashrc for each command, which may take long
            f"{'' if 'Subsystem' in self.extra else 'Subsystem sftp internal-sftp'}\n"
            f"{self.extra}\n"
        )
        self._log = (self.folder / "sshd.log").open("ab")
        self._server = subprocess.Popen(
            [_SERVER, "-D", "-e", "-f", str(self.folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=self._log
        )
        for _ in range(200):
            if self._server.poll() is not None:
                raise RuntimeError(f"sshd did not start: {(self.folder / 'sshd.log').read_text()[-500:]}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.direct_port), timeout=5):
                return
            time.sleep(0.05)
        raise RuntimeError("sshd does not listen after 10 s")

    def stop(self) -> None:
        """Ends the server and its sessions; what they had detached lives on, as on a device whose sshd restarts."""
        if self._server is None:
            return
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._server.pid).children(recursive=True)
            self._server.terminate()
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self._server.wait(timeout=10)
        self._server = None
        self._log.close()

    def cut(self, how: str = "stall") -> None:
        """`stall`: nothing passes and nobody is told. `drop`: connections end, new ones are closed at once."""
        self.relay.stall() if how == "stall" else self.relay.drop()

    def mend(self) -> None:
        self.relay.mend()

    def change_host_key(self) -> None:
        """The server gets another key, and nobody's known_hosts is told: a new SD card, or an attacker."""
        self.stop()
        self._new_key("host")
        self.start()

    def trust(self) -> None:
        """known_hosts says what the server's key is now."""
        key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{port} {key}\n" for port in (self.port, self.direct_port)))

    def _new_key(self, name: str) -> None:
        for file in (self.folder / name, self.folder / f"{name}.pub"):
            file.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)

    def _write_client(self) -> None:
        self.config.write_text(
            f"Host {self.alias}\n  HostName 127.0.0.1\n  Port {self.port}\n  User {self.user}\n"
            f"Host {self.alias}-jump\n  HostName 127.0.0.1\n  Port {self.direct_port}\n  User {self.user}\n"
            f"  ProxyJump {self.alias}\n"
            f"Host *\n  IdentityFile {self.folder}/client\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n  BatchMode yes\n"
        )


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """A server that all tests of the session share; who changes its key or cuts its link starts their own."""
    if (reason := why_no_sshd()) is not None:
        pytest.skip(reason)
    with Sshd() as device:
        yield device
