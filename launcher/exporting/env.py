"""LLM_* lines for a shell, as OpenHands reads them."""

from launcher import llm_env
from launcher.exporting.base import Export

NAME = "env"


def refuses(export: Export) -> str | None:  # noqa: ARG001 - an address is all that it tells
    """Never."""
    return None


def text(export: Export) -> str:
    """The lines; the key is read out of its file when the shell reads its line."""
    variables = llm_env.variables(export.llm)
    hidden = llm_env.secret_names(export.llm, variables)
    shown = {name: value for name, value in variables.items() if name not in hidden}
    if export.key_file is None:
        above = ["# The key: export LLM_API_KEY=... with the one that the server was started with."]
        return "\n".join([*above, *llm_env.shell(shown, {}, show_key=False)]) + "\n"
    files = dict.fromkeys(hidden, str(export.key_file))
    return "\n".join(["# The key is in a file of yours alone.", *llm_env.shell(variables, files, show_key=False)]) + "\n"
