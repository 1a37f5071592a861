"""One tree of errors; each class fixes the exit code that the command line answers with.

HarnessError                    an expected failure: one message, never a traceback
├── UsageError          exit 2  wrong arguments, unknown label, run, experiment or metric
│   ├── ConfigError     exit 2  the experiment file is wrong (file, line, path to the key)
│   └── UserCodeError   exit 2  a factory, weights or data that cannot be used
├── ToolchainError      exit 3  no compiler, SDK or library missing, a build tool failed
├── StoreError          exit 3  the store cannot be read or written
├── NotMeasured         exit 3  a figure is asked for that is absent, or a result that is not usable
├── Undecided           exit 3  a bound lies inside the interval: neither yes nor no can be said
├── PackageError        exit 3  a package or an artifact is damaged
└── DeviceError         exit 3  something on or between host and device failed
    ├── Unauthorized    exit 3  the device does not know us, or we do not know it (its host key)
    ├── NoSpace         exit 3  no room on the device
    ├── Busy            exit 3  another harness holds the device
    ├── RunnerError     exit 3  the runner's answer cannot be understood
    └── TransportError  exit 3  the link; the only class that may be retried
        ├── Offline     exit 3  it is known but does not answer
        ├── Gone        exit 3  the connection ended: unplugged, rebooted, daemon restarted
        ├── TimedOut    exit 3  no answer in time
        └── Refused     exit 3  nobody listens there, or there is no such device
"""

from __future__ import annotations


class HarnessError(Exception):
    """An expected failure. `what` says what failed and where, `hint` what to try."""

    exit_code = 3

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __reduce__(self) -> tuple[type[HarnessError], tuple[str, str | None]]:
        return type(self), (self.what, self.hint)  # survives the trip out of a worker process

    def __str__(self) -> str:
        return f"{self.what}\n  try: {self.hint}" if self.hint else self.what


class UsageError(HarnessError):
    exit_code = 2


class ConfigError(UsageError):
    """The experiment file cannot be used."""


class UserCodeError(UsageError):
    """The user's factory, weights or data cannot be used."""


class ToolchainError(HarnessError):
    """A compiler, an SDK or a library is missing or failed."""


class StoreError(HarnessError):
    """The store cannot be read or written."""


class NotMeasured(HarnessError):
    """A figure was asked for that could not be measured, or a result that is not `ok`; `what` has the reason."""


class Undecided(HarnessError):
    """A bound lies so near to a value that its interval says neither yes nor no; `hint` says what would settle it."""


class PackageError(HarnessError):
    """A package or an artifact is damaged or missing."""


class DeviceError(HarnessError):
    """Something on the device, or between it and the host, failed. `state` is what `harness devices` calls it."""

    state = "unreachable"


class Unauthorized(DeviceError):
    """The device does not let us in, or is not the one we know. Only a person can help."""

    state = "unauthorized"


class NoSpace(DeviceError):
    """There is no room on the device."""


class Busy(DeviceError):
    """Another harness holds the device."""

    state = "busy"


class TransportError(DeviceError):
    """The link failed; trying again may help."""


class Offline(TransportError):
    """The device is known, but does not answer."""

    state = "offline"


class Gone(TransportError):
    """The connection ended: unplugged, rebooted, its daemon restarted."""

    state = "offline"


class TimedOut(TransportError):
    """No answer in time."""

    state = "offline"


class Refused(TransportError):
    """Nobody listens there, or there is no such device."""


class RunnerError(DeviceError):
    """The runner's output cannot be understood."""
