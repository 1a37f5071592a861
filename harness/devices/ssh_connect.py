"""Opens an SSH connection as `ssh` would: by the user's configuration, agent and known hosts, through jump hosts.

Never asks for a password and never trusts a host key that known_hosts does not hold, whatever the configuration
says: a harness runs unattended, and what it measures on must be what it says."""

from __future__ import annotations

import asyncio
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh

from harness.devices.ssh_address import Address, parse
from harness.errors import DeviceError, Gone, HarnessError, Refused, TimedOut, Unauthorized, UsageError

CONNECT_S = 30.0
#: Beside the kinds of key that known_hosts holds, which are asked for first: a host that has none of them shall show
#: what it has, so that a person can compare.
HOST_KEYS = "+ssh-ed25519,ecdsa-sha2-nistp*,rsa-sha2-*"
#: A dead link is noticed after interval × (count + 1) seconds without any answer. Whatever arrives counts as one.
KEEPALIVE_S, KEEPALIVE_COUNT = 4, 3
MAX_JUMPS = 8

Connection = asyncssh.SSHClientConnection


async def connect(address: Address, name: str) -> list[Connection]:
    """The jump hosts, in order, and the device itself as the last. Who gets them closes them, last first.

    Raises UsageError for a configuration that cannot be read, Unauthorized, Refused, TimedOut, Gone, DeviceError."""
    try:
        async with asyncio.timeout(CONNECT_S):
            return await _connect(address, name, None, [])
    except TimeoutError as error:
        raise TimedOut(
            f"{name}: no SSH connection within {CONNECT_S:g} s", "is it switched on, and is the address right?"
        ) from error


async def close(connections: list[Connection], within_s: float = 2.0) -> None:
    """Closes them, last first; over a dead link by force."""
    for connection in reversed(connections):
        connection.close()
        try:
            async with asyncio.timeout(within_s):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await connection.wait_closed()


async def _connect(address: Address, name: str, via: Connection | None, above: list[Address]) -> list[Connection]:
    options = _options(address, name, tunnel=via or ())
    opened: list[Connection] = [] if via is None else [via]
    try:
        if via is None:
            for jump in _jumps(options, address, name, above):
                through = await _connect(jump, name, opened[-1] if opened else None, [*above, address])
                opened += through if not opened else through[1:]
        opened.append(await _connect_one(options, address, name, opened[-1] if opened else None, bool(above)))
    except BaseException:
        await close(opened[1:] if via is not None else opened, within_s=0.5)
        raise
    return opened


def _jumps(options: Any, address: Address, name: str, above: list[Address]) -> list[Address]:
    words = str(options.tunnel or "none")
    if words.lower() == "none":
        return []
    if len(above) >= MAX_JUMPS:
        raise UsageError(f"{name}: its ProxyJump goes round in circles", "write ProxyJump none for the jump host")
    jumps = [parse(word if word.startswith("ssh://") else f"ssh://{word}") for word in words.split(",")]
    # a `Host *` with a ProxyJump is meant for all but the jump host itself
    return [] if address.host in {jump.host for jump in jumps} else jumps


def _options(address: Address, name: str, **more: Any) -> Any:
    """What the user's configuration says of this host. Raises UsageError."""
    try:
        config = _config()
        # no key is loaded yet: those that the configuration names need not exist
        return asyncssh.SSHClientConnectionOptions(
            host=address.host, port=address.port or (), username=address.user or (), config=config, client_keys=None,
            **more,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise UsageError(f"{name}: the SSH configuration cannot be used: {error}", "ssh -G HOST shows it") from error


def _config() -> list[str]:
    """HARNESS_SSH_CONFIG replaces ~/.ssh/config, for tests and CI; a missing one is an error then."""
    if given := os.environ.get("HARNESS_SSH_CONFIG"):
        return [given]
    usual = Path("~/.ssh/config").expanduser()
    return [str(usual)] if usual.is_file() else []


def _known_hosts(options: Any, name: str) -> tuple[asyncssh.SSHKnownHosts, list[str]]:
    """Every known host of every file that exists. asyncssh takes `UserKnownHostsFile none` as leave to trust
    everybody, and a file that does not exist as an error; here neither is more than no known host."""
    users = options.config.get("UserKnownHostsFile", ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"])
    world = options.config.get("GlobalKnownHostsFile", ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"])
    known, files = asyncssh.import_known_hosts(""), [os.path.expanduser(file) for file in [*users, *world]]
    for file in files:
        try:
            lines = Path(file).read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{name}: {file} cannot be read: {error.strerror}", "is it yours?") from error
        for line in lines:
            with suppress(ValueError):  # like ssh, which skips what it does not understand
                known.load(line)
    return known, files


def _keys(options: Any) -> Any:
    """Identity files that exist; `()` lets asyncssh look for the usual ones. One that is missing is no error to ssh."""
    named = options.config.get("IdentityFile", ())
    return [path for path in map(os.path.expanduser, named) if os.path.isfile(path)] if named else ()


class _Client(asyncssh.SSHClient):
    """Remembers the key of a host that is not trusted."""

    stranger: asyncssh.SSHKey | None = None
    address: str = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.stranger, self.address = key, addr
        return False


async def _connect_one(options: Any, address: Address, name: str, via: Connection | None, is_jump: bool) -> Connection:
    client, (known, files) = _Client(), _known_hosts(options, name)
    where = f"{options.host}:{options.port}"
    who = f"{name}: jump host {address.host}" if is_jump else name
    try:
        return await asyncssh.connect(
            address.host,
            port=address.port or (),
            username=address.user or (),
            config=_config(),
            known_hosts=known,
            server_host_key_algs=() if options.config.get("HostKeyAlgorithms") else HOST_KEYS,
            client_factory=lambda: client,
            client_keys=_keys(options),
            ignore_encrypted=True,  # a key with a passphrase is used through the agent
            tunnel=via,
            compression_algs=["none"],
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVE_COUNT,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise _stranger(who, options, address, client, known, files, str(error.reason)) from error
    except (asyncssh.Error, OSError, ValueError) as error:
        raise _explained(error, who, where, options.username, address) from error


def _stranger(
    who: str, options: Any, address: Address, client: _Client, known: asyncssh.SSHKnownHosts, files: list[str], why: str
) -> Unauthorized:
    """Why its host key is not trusted, with the fingerprints that a person has to compare."""
    if client.stranger is None:
        return Unauthorized(f"{who}: its host key is refused: {why}", "ask who runs it")
    host, port = options.host_key_alias or options.host, options.port
    entry = host if port == 22 else f"[{host}]:{port}"
    shown = f"{client.stranger.get_algorithm()} {client.stranger.get_fingerprint()}"
    before = known.match(host, client.address, None if port == 22 else port)[0]
    if before:
        held = ", ".join(sorted({f"{key.get_algorithm()} {key.get_fingerprint()}" for key in before}))
        file = next((file for file in files if os.path.isfile(file)), "~/.ssh/known_hosts")
        return Unauthorized(
            f"{who}: its host key changed: known_hosts holds {held}, it shows {shown}",
            "either its system was set up anew, or another computer answers in its place. If you know that it is "
            f"the former: ssh-keygen -f {shlex.quote(file)} -R {shlex.quote(entry)}, then ssh {address.words} once",
        )
    return Unauthorized(
        f"{who}: its host key is not known here: {entry} shows {shown}",
        f"ssh {address.words} once and compare the fingerprint; or add to known_hosts what ssh-keyscan -p {port} "
        f"{options.host} prints, compared too. On the device: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    )


def _explained(error: Exception, who: str, where: str, user: str, address: Address) -> HarnessError:
    reason = str(error) or type(error).__name__
    match error:
        case asyncssh.PermissionDenied():
            return Unauthorized(
                f"{who}: it does not let {user} in with any key that is offered",
                f"ssh-copy-id {address.words}; a key with a passphrase has to be in the agent (ssh-add)",
            )
        case asyncssh.ChannelOpenError(code=asyncssh.OPEN_CONNECT_FAILED) | ConnectionRefusedError():
            return Refused(f"{who}: nobody listens at {where}", "is sshd running there, and is the port right?")
        case TimeoutError():
            return TimedOut(f"{who}: {where} does not answer", "is it switched on, and is the address right?")
        case ConnectionResetError() | BrokenPipeError() | asyncssh.ConnectionLost():
            return Gone(f"{who}: {where} ended the connection at once", "is it starting up? its sshd's log says more")
        case asyncssh.DisconnectError() if "uthentication fail" in reason:
            return Unauthorized(
                f"{who}: {reason}", "the agent offers too many keys; name one with IdentityFile and IdentitiesOnly yes"
            )
        case asyncssh.DisconnectError():
            return Refused(f"{who}: {where} does not speak SSH with us: {reason}", "is it an SSH server's port?")
        case OSError():
            return Refused(f"{who}: {where} cannot be reached: {error.strerror or reason}", "is the name right?")
        case ValueError():
            return UsageError(f"{who}: the SSH configuration cannot be used: {reason}", "ssh -G HOST shows it")
        case _:
            return DeviceError(f"{who}: {reason}")
