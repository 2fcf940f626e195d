"""Ops Commander: progressive delivery of ML models, judged by evidence."""

__version__ = "0.1.0"
