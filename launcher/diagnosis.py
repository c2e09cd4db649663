"""Why an engine died, from its log and from what was seen beside it: the cause, the line that shows it, and what to do."""

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from launcher.engines.base import Fault
from launcher.gpu import GpuProcess, named

# The last lines that are looked at: the tracebacks of eight workers, an engine core and a server are fewer.
LINES = 5_000
# What else a process says of its end stands shortly before its engine calls it one.
_BEFORE_END = 50
# The last lines of an engine that hangs.
_LAST_WORDS = 10
# Of the context that an engine says would fit: the next start may find a little less memory. Then in whole 1,024s.
_FITTING, _STEP = 0.98, 1_024
_EVIDENCE = 300

# How both engines begin to tell of their own end: vllm/v1/engine/core.py, v1/executor/multiproc_executor.py;
# sglang/srt/managers.
_END = re.compile(
    r"EngineCore failed to start|EngineCore encountered a fatal error|WorkerProc failed to start|WorkerProc hit an exception"
    r"|(?:EngineCore|Scheduler|Manager|Controller|Router) hit an exception"
)
# Lines that only say that something failed elsewhere.
_NOISE = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|See (?:root cause|stack trace)"
    r"|During handling of the above|EngineDeadError|RuntimeError: Executor failed"
    r"|RuntimeError: Worker failed with error|: 1 validation error for"
    r"|^(?:EOFError|SystemExit|KeyboardInterrupt|asyncio\.\S*CancelledError)\b"
)
# What Python ends a traceback with; what pydantic puts on the line after that; what argparse says.
_RAISED = re.compile(r"^(?:[\w.]*(?:Error|Exception)\b.*| *Value error, .*|[\w ./-]+: error: .*)$")
_TRACEBACK = "Traceback (most recent call last):"
# docker's and compose's; vLLM's process, level, time and place; SGLang's time and rank; PyTorch's rank.
_PREFIX = re.compile(
    r"^(?:[\w.-]+ +\| )?(?:\d{4}-\d\d-\d\dT[\d:.]+Z )?"
    r"(?:\([\w ,=-]* ?pid=\d+\) )*"
    r"(?:[A-Z]{4,8} [\d-]+ [\d:]+ \[[^\]]*\] ?|\[[\d-]{10} [\d:]{8}[^\]]{0,20}\] )?(?:\[rank\d+\]: ?)?"
)
_PROCESS = re.compile(r"\([\w ,=-]* ?pid=\d+\)")
_QUIET = re.compile(r"\b(?:INFO|DEBUG) ")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")

_KILLED = "was killed: by the kernel, if the machine's memory ran out, or by a person"
_SIGNALS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        signal.SIGKILL: (
            _KILLED,
            "`dmesg` shows whether it was the kernel; if so, free memory or start with a smaller --context",
        ),
        signal.SIGBUS: ("ended by a bus error", "see whether /dev/shm or the disk is full"),
        signal.SIGILL: ("used an instruction that this processor does not have", "take another version of the engine"),
        signal.SIGTERM: ("was asked to end by another program", ""),
    }
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was seen beside the log; what nobody looked at is left out.

    `exit_code` of its first process, -9 for an end by signal 9; `oom_kills`: its processes that the kernel killed for memory;
    `silence`: seconds since its last word, where it was given up for that, and `phase`, what it was at; `holders`: who else
    holds memory of its GPUs.
    """

    exit_code: int | None = None
    oom_kills: int = 0
    silence: float | None = None
    phase: str = ""
    holders: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """A start that may be tried without asking: with `context` tokens, None for the same once more, after a while."""

    context: int | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a person is told; `evidence` is a line of the log, cut to a readable length.

    `fault` names the cause for programs: "" for one that nobody foresaw. `retry` is None where no start would go better.
    """

    cause: str
    evidence: str
    remedy: str
    fault: str = ""
    retry: Retry | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, and its text without what stands before it; `process` is who wrote it, "" where that is not told."""

    whole: str
    process: str
    text: str
    tells: bool


def diagnose(log: Sequence[str], faults: Sequence[Fault], beside: Circumstances | None = None) -> Diagnosis:
    """The most telling known fault in the lines of a log, or the first error of what failed first, or that there is none."""
    beside = beside or Circumstances()
    lines = [_line(each) for each in log[-LINES:] if each.strip()]
    if beside.oom_kills:
        return _out_of_memory(lines, beside)
    # An engine may fail and not end.
    if beside.silence is not None and not any(_END.search(line.text) for line in lines):
        return _stalled(lines, faults, beside) or _silent(lines, beside)
    start = _start_of_end(lines)
    return (
        _known(lines, start, faults, beside)
        or _unforeseen(lines[start:])
        or _stalled(lines, faults, beside)
        or _ended(lines, beside)
    )


def _line(raw: str) -> _Line:
    plain = _COLOURS.sub("", raw).rstrip()
    text = _PREFIX.sub("", plain)
    prefix = plain.removesuffix(text)
    # Frames of tracebacks are indented, and so is the usage that argparse prints; pydantic's reasons too.
    tells = (not text.startswith(" ") or text.lstrip().startswith("Value error")) and not _QUIET.search(prefix)
    return _Line(plain, "".join(_PROCESS.findall(prefix)), text, tells and not _NOISE.search(text))


def _start_of_end(lines: Sequence[_Line]) -> int:
    """The first line of the engine's end, where it tells of one: what it survived before is no cause."""
    first = next((index for index, line in enumerate(lines) if _END.search(line.text)), 0)
    return max(0, first - _BEFORE_END)


def _known(lines: Sequence[_Line], start: int, faults: Sequence[Fault], beside: Circumstances) -> Diagnosis | None:
    """The first line that shows the most telling fault, from `start` on."""
    telling = [(index, line) for index, line in enumerate(lines) if index >= start and line.tells]
    for fault in (each for each in faults if not each.stalls):
        pattern = re.compile(fault.pattern)
        for index, line in telling:
            if (found := pattern.search(line.text)) and _stands_after(fault, lines[:index]):
                return _told(fault, line, [word for word in found.groups() if word is not None], beside)
    return None


def _stands_after(fault: Fault, before: Sequence[_Line]) -> bool:
    return not fault.after or any(re.search(fault.after, line.whole) for line in before)


def _told(fault: Fault, line: _Line, words: list[str], beside: Circumstances) -> Diagnosis:
    retry = Retry() if fault.retry == "again" else None
    if fault.retry == "fits" and (fitting := int(int(words[0]) * _FITTING) // _STEP * _STEP):
        retry, words[0] = Retry(fitting), str(fitting)
    return Diagnosis(
        cause=fault.cause.format(*words),
        evidence=_evidence(line),
        remedy=fault.remedy.format(*words, holders=_holders(beside)),
        fault=fault.name,
        retry=retry,
    )


def _holders(beside: Circumstances) -> str:
    return f"held by {named(beside.holders)}" if beside.holders else "`launcher gpus` shows who holds it"


def _unforeseen(lines: Sequence[_Line]) -> Diagnosis | None:
    """The error that nobody foresaw: the first that was raised in the engine's end, or the last of all."""
    ended = any(_END.search(line.text) for line in lines)
    found = next(_raised(lines), None) if ended else None
    found = found or next((line for line in reversed(lines) if line.tells and _RAISED.match(line.text)), None)
    return Diagnosis("the engine stopped with an error", _evidence(found), "") if found else None


def _raised(lines: Sequence[_Line]) -> Iterator[_Line]:
    """What each traceback ends with, in the order in which they began; processes write between each other's lines."""
    for start, line in enumerate(lines):
        if line.text.endswith(_TRACEBACK):
            after = (each for each in lines[start + 1 :] if each.process == line.process)
            if (found := next((each for each in after if not each.text.startswith(" ")), None)) and found.tells:
                yield found


def _stalled(lines: Sequence[_Line], faults: Sequence[Fault], beside: Circumstances) -> Diagnosis | None:
    """The fault of which the last words tell; none once it serves, when an engine may be silent."""
    last = lines[-_LAST_WORDS:]
    if any("Application startup complete" in line.text for line in lines):
        return None
    for fault in (each for each in faults if each.stalls):
        for line in reversed(last):
            if found := re.search(fault.pattern, line.text):
                return _told(fault, line, [word for word in found.groups() if word is not None], beside)
    return None


def _silent(lines: Sequence[_Line], beside: Circumstances) -> Diagnosis:
    minutes = (beside.silence or 0) / 60
    at = f" while it was at: {beside.phase}" if beside.phase else ""
    remedy = "see whether it still reads its weights from the disk or the network; if not, start it again"
    return Diagnosis(f"the engine said nothing for {minutes:.0f} minutes{at}", _last(lines), remedy, "silence")


def _out_of_memory(lines: Sequence[_Line], beside: Circumstances) -> Diagnosis:
    """The kernel's own count is surer than anything that a log says."""
    told = next((line for line in lines if line.tells and re.search(r"exit code:? -9\b|^Killed\b", line.text)), None)
    several = "a process" if beside.oom_kills == 1 else f"{beside.oom_kills} processes"
    return Diagnosis(
        cause=f"the machine's memory ran out: the kernel killed {several} of the engine",
        evidence=_evidence(told) if told else _last(lines),
        remedy="free memory, or start with a smaller --context or --variant; in a container, allow it more memory",
        fault="host-memory-killed",
    )


def _ended(lines: Sequence[_Line], beside: Circumstances) -> Diagnosis:
    """What the way of its end alone tells; a shell says 137 for signal 9."""
    code = beside.exit_code or 0
    number = -code if code < 0 else code - 128
    if number <= 0:
        return Diagnosis("the engine ended without naming an error", _last(lines), "")
    how, remedy = _SIGNALS.get(
        number, (f"was ended by signal {number}", "if it comes back, take another version of the engine")
    )
    name = "killed" if number == signal.SIGKILL else "crashed"
    return Diagnosis(f"the engine {how}", _last(lines), remedy, name, Retry())


def _last(lines: Sequence[_Line]) -> str:
    return _evidence(lines[-1]) if lines else ""


def _evidence(line: _Line) -> str:
    return line.text.strip()[:_EVIDENCE]
