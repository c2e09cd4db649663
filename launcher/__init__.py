"""One command from a bare machine to a working local model behind a coding agent."""

__version__ = "0.1.0"
