"""What an interpreter has of engines: `python inspection.py PACKAGE,... MODULE...`, run by it and never imported by us.

It may be older than our own: nothing newer than Python 3.9 is used. The last line is one JSON object.
"""

import importlib
import json
import sys
from importlib import metadata


def main(packages: list[str], modules: list[str]) -> None:
    """Tell which of the packages are installed, import the modules, and tell what PyTorch was built for and the first fault."""
    versions = {name: version for name in packages if (version := installed(name))}
    torch, cuda, fault = "", "", ""
    archs: list[str] = []
    for module in modules:
        try:
            found = importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is what the engine would die of
            fault = "import {}: {}: {}".format(module, type(error).__name__, " ".join(str(error).split()))
            break
        if module == "torch":
            torch, cuda = found.__version__, found.version.cuda or ""
            # torch.cuda.get_arch_list() is empty without a GPU.
            archs = found._C._cuda_getArchFlags().split() if cuda else []  # noqa: SLF001  # for that reason
    told = {"packages": versions, "torch": torch, "cuda": cuda, "archs": archs, "fault": fault}
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def installed(package: str) -> str:
    """The version of a package, "" if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(list(filter(None, sys.argv[1].split(","))), sys.argv[2:])
