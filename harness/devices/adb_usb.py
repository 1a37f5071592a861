"""USB access to a phone's adb interface, by adb-shell and libusb. Never run on a phone by this project's tests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from harness.devices.adb_stream import left_s, printable
from harness.errors import Busy, DeviceError, Gone, Refused, TimedOut, ToolchainError, TransportError

_FULL_PACKET = 512
_UDEV = "let this user open it: apt install android-sdk-platform-tools-common, then plug it in again"


def _libraries() -> tuple[Any, Any]:
    """usb1 and adb-shell's UsbTransport. Raises ToolchainError where libusb is missing."""
    try:
        import usb1
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:  # the library is opened while it is imported
        raise ToolchainError(f"USB cannot be used: {error}", "apt install libusb-1.0-0; or use adb://SERIAL") from error
    except Exception as error:  # libusb itself failed: a container without /dev/bus/usb
        raise ToolchainError(f"USB cannot be used here: {error!r}", "use adb://SERIAL") from error
    return usb1, UsbTransport


def _found() -> list[tuple[str | None, Any]]:
    """(serial, device) of all that offer adb; the serial is None where this user may not open it."""
    usb1, transport = _libraries()
    found: list[tuple[str | None, Any]] = []
    try:
        for device in transport.find_all_adb_devices():
            try:
                found.append((printable(device.serial_number or "", 200), device))
            except usb1.USBError:
                found.append((None, device))
    except usb1.USBError as error:
        raise ToolchainError(f"USB cannot be searched: {error!r}", "use adb://SERIAL") from error
    return found


def serials() -> list[str]:
    """Raises ToolchainError without libusb, DeviceError where there are some and none may be opened."""
    found = _found()
    there = [serial for serial, _ in found if serial]
    if found and not there:
        raise DeviceError("a phone is on USB, and this user may not open it", _UDEV)
    return there


class UsbWire:
    """Raises Refused where no phone has this serial, Busy where an adb server holds it, DeviceError without access."""

    boundary = _FULL_PACKET

    def __init__(self, serial: str, name: str) -> None:
        self._usb1, _ = _libraries()
        self._name = name
        found = _found()
        device = next((device for other, device in found if other == serial), None)
        if device is None:
            if any(other is None for other, _ in found):
                raise DeviceError(f"{name}: this user may not open the phone on USB", _UDEV)
            there = ", ".join(other for other, _ in found if other) or "none"
            raise Refused(f"{name}: no phone {serial} on USB", f"these offer adb: {there}; is USB debugging on?")
        self._device = device
        try:
            device.connect(transport_timeout_s=None)
        except self._usb1.USBErrorBusy as error:
            hint = "use adb://SERIAL, or end the server: adb kill-server"
            raise Busy(f"{name}: another program holds it, most likely an adb server", hint) from error
        except self._usb1.USBErrorAccess as error:
            raise DeviceError(f"{name}: this user may not open it", _UDEV) from error
        except self._usb1.USBError as error:
            raise Gone(f"{name}: it cannot be opened: {error!r}", "plug it in again") from error

    def send(self, header: bytes, data: bytes, deadline: float) -> None:
        for part in (header, data):  # two transfers: adbd reads the header alone
            if part:
                self._try(lambda left, part=part: self._device.bulk_write(part, left), deadline)

    def recv(self, size: int, deadline: float) -> bytes:
        while True:
            data: bytes = self._try(lambda left: self._device.bulk_read(size, left), deadline)
            if data:  # an empty transfer marks the end of another
                return data

    def close(self) -> None:
        with suppress(Exception):  # it may be unplugged already
            self._device.close()

    def _try(self, work: Any, deadline: float) -> Any:
        from adb_shell.exceptions import UsbReadFailedError, UsbWriteFailedError

        left = left_s(deadline, self._name)
        try:
            return work(max(left, 0.001))  # libusb takes 0 ms as for ever
        except (UsbReadFailedError, UsbWriteFailedError) as error:
            raise self._explained(getattr(error, "usb_error", None)) from error

    def _explained(self, error: Any) -> TransportError:
        if isinstance(error, self._usb1.USBErrorTimeout):
            return TimedOut(f"{self._name}: no answer in time", "is the phone awake?")
        return Gone(f"{self._name}: the USB link ended: {error!r}", "is it still plugged in?")
