"""The errors of the hub's client, as ours: one line each, and what to do. Used only in the hub's own process."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from launcher.errors import LauncherError
from launcher.transfer import transient

LOGIN = "`hf auth login`"


class Unreachable(Exception):  # noqa: N818  # never leaves the process
    """The hub cannot be reached, or not now."""


def token_used() -> str:
    """Which token is sent, for people; never the token itself."""
    from huggingface_hub import constants, get_token

    # In the order of the client's own (utils/_auth.py, get_token).
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name):
            return f"the token in {name}"
    return f"the token in {constants.HF_TOKEN_PATH}" if get_token() else "no token"


def one_line(error: Exception) -> str:
    """The text of an error, or its kind where it has none."""
    words = " ".join(str(error).split())
    return re.sub(r"^\[Errno -?\d+\] ", "", words) or type(error).__name__


@contextmanager
def faults(repo: str, revision: str | None) -> Iterator[None]:
    """The client's errors as ours; Unreachable where nobody answered."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise
    except Exception as error:
        if (explained := _explain(error, repo, revision)) is None:
            raise
        raise explained from None


def _explain(error: Exception, repo: str, revision: str | None) -> Exception | None:
    """What to raise instead; None for what nobody expects."""
    import httpx
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    asked = token_used()
    terms = f"accept the terms at {ENDPOINT}/{repo}, then {LOGIN}"
    if asked != "no token":
        terms = f"accept the terms at {ENDPOINT}/{repo} with that token's account, or {LOGIN} with another one"
    sayings = (
        (errors.GatedRepoError, f"{repo} is gated: its authors ask for your consent first (asked with {asked})", terms),
        (
            errors.RepositoryNotFoundError,
            f"the hub has no repository {repo}, or not for you (asked with {asked})",
            f"check the name; or {LOGIN}",
        ),
        (errors.RevisionNotFoundError, f"{repo} has no revision {revision}", f"see {ENDPOINT}/{repo}/commits"),
        (errors.HFValidationError, f"{repo!r} is no name of a repository", "it looks like ORGANISATION/MODEL"),
    )
    for kind, message, hint in sayings:
        if isinstance(error, kind):
            return LauncherError(message, hint=hint)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, repo, asked)
    if isinstance(error, httpx.TransportError | errors.LocalEntryNotFoundError):
        return Unreachable(type(error.__cause__ or error).__name__)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LauncherError(
            f"the disk became full while {repo} was fetched", hint="make room and try again: what is there is kept"
        )
    return None


def _explain_status(status: int, repo: str, asked: str) -> Exception:
    if transient(status):
        return Unreachable(f"it answered {status}")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        hint = f"{asked} is not accepted: {LOGIN} anew, or unset HF_TOKEN" if asked != "no token" else LOGIN
        return LauncherError(f"the hub answered {status} for {repo}", hint=hint)
    return LauncherError(f"the hub answered {status} for {repo}", hint="try again later")
