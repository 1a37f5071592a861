"""The proof: what docs/measurement.md claims of the statistics, each tried on devices whose truth is known."""
