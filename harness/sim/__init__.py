"""Devices that are not there: a world with heat, noise and faults whose truth is known, behind a transport."""
