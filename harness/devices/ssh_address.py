"""What stands behind `ssh://`: a user, a host or an alias of ~/.ssh/config, a port. Imports no SSH library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from harness.errors import UsageError

#: A host is put into `ProxyCommand` and `Match exec` lines of the user's configuration as %h, and those go to a
#: shell or to a program's options: no character that a shell knows, and no leading `-`.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}"
_URI = re.compile(
    rf"ssh://(?:(?P<user>{_NAME})@)?(?:(?P<host>{_NAME})|\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\])(?::(?P<port>[0-9]{{1,5}}))?"
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """None: what the configuration says, else the user's own name and port 22."""

    host: str
    user: str | None = None
    port: int | None = None

    @property
    def words(self) -> str:
        """Options and host for `ssh`, as a person would type them."""
        port = f"-p {self.port} " if self.port else ""
        return f"{port}{self.user}@{self.host}" if self.user else f"{port}{self.host}"


def parse(uri: str) -> Address:
    """Raises UsageError for what is not `ssh://[user@]host[:port]`."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise UsageError(
            f"{uri!r} is not a device reached by SSH",
            "write ssh://[user@]host[:port]; host is a name, an address ([…] around IPv6) or an alias of ~/.ssh/config",
        )
    host, port = match["host"] or match["ipv6"], match["port"]
    if match["ipv6"]:
        try:
            IPv6Address(host)
        except ValueError as error:
            raise UsageError(f"{uri!r}: {host} is no IPv6 address") from error
    if port is not None and not 0 < int(port) < 65536:
        raise UsageError(f"{uri!r}: there is no port {port}")
    return Address(host=host, user=match["user"], port=int(port) if port else None)
