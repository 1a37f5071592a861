"""Runs in other tools' formats, and back."""
