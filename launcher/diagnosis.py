"""Why an engine died, from its log: the cause, the line that shows it, and what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.engines.base import Fault

# Lines that only say that something failed elsewhere.
_NOISE = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|See root cause above|During handling of the above"
)
_ERROR = re.compile(r"(?:^|[\s:])((?:[A-Za-z_][\w.]*)?(?:Error|Exception|Killed)\b.*)")
# vLLM's process, level, time and place; SGLang's time and rank.
_PREFIX = re.compile(
    r"^(?:\(\w[\w -]* pid=\d+\) (?:(?:ERROR|INFO|WARNING) [\d-]+ [\d:]+ \[[^\]]*\] ?)?|\[[\d-]{10} [\d:]{8}[^\]]{0,20}\] )"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a person is told; `evidence` is a line of the log, cut to a readable length."""

    cause: str
    evidence: str
    remedy: str


def diagnose(log: Sequence[str], faults: Sequence[Fault]) -> Diagnosis:
    """The most telling known fault in the lines of a log, or the last error in it, or that there is none."""
    for fault in faults:
        for line in log:
            if (found := re.search(fault.pattern, line)) and not _NOISE.search(line):
                words = found.groups()
                return Diagnosis(fault.cause.format(*words), _evidence(line), fault.remedy.format(*words))
    for line in reversed(log):
        if (found := _ERROR.search(_PREFIX.sub("", line))) and not _NOISE.search(line):
            return Diagnosis("the engine stopped with an error", _evidence(found[1]), "")
    last = next((line for line in reversed(log) if line.strip()), "")
    return Diagnosis("the engine ended without naming an error", _evidence(last), "")


def _evidence(line: str) -> str:
    return _PREFIX.sub("", line).strip()[:300]
