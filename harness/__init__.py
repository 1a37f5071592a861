"""On-device benchmarking for PyTorch models: compress, export, measure on the device, decide."""

__version__ = "0.1.0"
