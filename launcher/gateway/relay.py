"""Engines' own metrics under one roof: each sample gets its model's name, each family its head once."""

import re
from collections.abc import Iterable

_HEAD = re.compile(r"# (HELP|TYPE) (\S+) ")
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{)?(.*)", re.DOTALL)
_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created")


def merged(told: Iterable[tuple[str, str, str]]) -> str:
    """Prometheus' text format of several engines, as one. Lines that are not of the format are left out.

    (model, replica, text) each; "" for the only one of a model: of two samples with the same labels none is taken.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for model, replica, text in told:
        label = f'model="{_escaped(model)}"' + (f',replica="{_escaped(replica)}"' if replica else "")
        mine: dict[str, list[str]] = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                mine.setdefault(head[2], []).append(line)
            elif line and not line.startswith("#") and (sample := _SAMPLE.match(line)):
                family = _family(sample[1], mine)
                samples.setdefault(family, []).append(_labelled(sample, label))
        for family, lines in mine.items():
            heads.setdefault(family, lines)
    return "".join("\n".join([*heads.get(family, []), *lines]) + "\n" for family, lines in samples.items())


def _labelled(sample: re.Match[str], label: str) -> str:
    name, brace, rest = sample.groups()
    if not brace:
        return f"{name}{{{label}}}{rest}"
    # An engine's own label of that name would make two of it.
    own = re.sub(r'(^|,)model="', r'\1engine_model="', rest, count=1)
    return f"{name}{{{label}{'' if own.startswith('}') else ','}{own}"


def _family(name: str, heads: dict[str, list[str]]) -> str:
    for suffix in _SUFFIXES:
        if name not in heads and (short := name.removesuffix(suffix)) in heads:
            return short
    return name


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
