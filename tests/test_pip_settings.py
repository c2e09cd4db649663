import os
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.pip_settings import read_pip_config, uv_environment, uv_options

WITH_PASSWORD = "https://me:secret@mirror.example/simple"  # noqa: S105  # an address with one is what this is about


@pytest.mark.parametrize(
    ("env", "config", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing said, nothing added"),
        pytest.param(
            {"PIP_INDEX_URL": WITH_PASSWORD}, {}, {"UV_DEFAULT_INDEX": WITH_PASSWORD}, id="the index of the environment"
        ),
        pytest.param({}, {"index-url": WITH_PASSWORD}, {"UV_DEFAULT_INDEX": WITH_PASSWORD}, id="the index of a file"),
        pytest.param(
            {"PIP_INDEX_URL": "https://a/simple"},
            {"index-url": "https://b/simple"},
            {"UV_DEFAULT_INDEX": "https://a/simple"},
            id="the environment beats the files",
        ),
        pytest.param(
            {"PIP_INDEX_URL": "https://a/simple", "UV_DEFAULT_INDEX": "https://c/simple"},
            {},
            {},
            id="what the user told uv beats both",
        ),
        pytest.param(
            {"PIP_INDEX_URL": "https://a/simple", "UV_INDEX_URL": "https://c/simple"},
            {},
            {},
            id="by its old name too",
        ),
        pytest.param(
            {}, {"extra-index-url": "\nhttps://a/s\nhttps://b/s"}, {"UV_INDEX": "https://a/s https://b/s"}, id="more indexes"
        ),
        pytest.param(
            {"PIP_FIND_LINKS": "/wheels https://a/x,y.html"},
            {},
            {"UV_FIND_LINKS": "/wheels,https://a/x%2Cy.html"},
            id="places of wheels, a comma in an address kept as one",
        ),
        pytest.param({"PIP_TRUSTED_HOST": "a b:80"}, {}, {"UV_INSECURE_HOST": "a b:80"}, id="trusted hosts"),
        pytest.param({"PIP_CERT": "/ca.pem"}, {}, {"SSL_CERT_FILE": "/ca.pem"}, id="the certificates"),
        pytest.param({"PIP_CERT": "/ca.pem", "SSL_CERT_FILE": "/own.pem"}, {}, {}, id="certificates that uv reads anyway stay"),
        pytest.param({"PIP_DEFAULT_TIMEOUT": "180"}, {}, {"UV_HTTP_TIMEOUT": "180"}, id="the timeout by its long name"),
        pytest.param({"PIP_TIMEOUT": "1.5"}, {"timeout": "9"}, {"UV_HTTP_TIMEOUT": "2"}, id="uv's whole seconds"),
        pytest.param(
            {"PIP_PROXY": "http://p:1"},
            {},
            {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"},
            id="the proxy for everything",
        ),
        pytest.param({"PIP_PROXY": "http://p:1", "https_proxy": "http://q:2"}, {}, {}, id="a proxy that is set already stays"),
        pytest.param({"PIP_INDEX_URL": ""}, {}, {}, id="an empty variable says nothing"),
        pytest.param(
            {"PIP_NO_INDEX": "1", "PIP_INDEX_URL": "https://a/s", "PIP_FIND_LINKS": "/w"},
            {},
            {"UV_FIND_LINKS": "/w"},
            id="without indexes only the places of wheels are left",
        ),
    ],
)
def test_pips_settings_become_uvs(env: dict[str, str], config: dict[str, str], expected: dict[str, str]) -> None:
    assert uv_environment(env, config, cpu_build=True) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"PIP_FIND_LINKS": "/w"}, {}, id="CPU wheels stay away from a CUDA build"),
        pytest.param(
            {"PIP_FIND_LINKS": "/w", "PIP_NO_INDEX": "true"}, {"UV_FIND_LINKS": "/w"}, id="unless there is nothing else"
        ),
    ],
)
def test_places_of_wheels_are_for_cpu_builds(env: dict[str, str], expected: dict[str, str]) -> None:
    assert uv_environment(env, {}, cpu_build=False) == expected


def test_a_relative_place_of_wheels_is_seen_from_where_the_user_stands() -> None:
    assert uv_environment({"PIP_FIND_LINKS": "wheels"}, {}, cpu_build=True) == {"UV_FIND_LINKS": str(Path.cwd() / "wheels")}


def test_a_timeout_that_is_no_number_is_told() -> None:
    with pytest.raises(LauncherError, match="'soon' is not a number"):
        uv_environment({"PIP_TIMEOUT": "soon"}, {}, cpu_build=True)


@pytest.mark.parametrize(
    ("env", "config", "expected"),
    [
        pytest.param({"PIP_NO_INDEX": "yes"}, {}, ("--no-index",), id="forbidden by the environment"),
        pytest.param({}, {"no-index": "true"}, ("--no-index",), id="forbidden by a file"),
        pytest.param({"PIP_NO_INDEX": "0"}, {"no-index": "true"}, (), id="allowed again by the environment"),
        pytest.param({"UV_DEFAULT_INDEX": "https://a/s"}, {"no-index": "true"}, (), id="uv has an index of its own"),
        pytest.param({}, {}, (), id="not forbidden"),
    ],
)
def test_indexes_can_be_forbidden(env: dict[str, str], config: dict[str, str], expected: tuple[str, ...]) -> None:
    assert uv_options(env, config) == expected


FILES = {
    "etc/pip.conf": "[global]\ntimeout = 1\nindex-url = https://etc/s\ncert = /etc.pem\n",
    "home/.config/pip/pip.conf": "[global]\ntimeout = 2\n[install]\nfind_links =\n    /a\n    /b\n",
    "venv/pip.conf": "[global]\nindex-url = https://venv/100%/s\n",
    "own.conf": "[global]\ntimeout = 3\n",
}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param(
            {},
            {"timeout": "2", "index-url": "https://venv/100%/s", "cert": "/etc.pem", "find-links": "\n/a\n/b"},
            id="the nearer file wins",
        ),
        pytest.param(
            {"PIP_CONFIG_FILE": "own.conf"},
            {"timeout": "3", "index-url": "https://venv/100%/s", "cert": "/etc.pem"},
            id="a chosen file replaces the user's",
        ),
        pytest.param({"PIP_CONFIG_FILE": os.devnull}, {}, id="the null device turns all files off"),
        pytest.param(
            {"XDG_CONFIG_HOME": "nowhere"},
            {"timeout": "1", "index-url": "https://venv/100%/s", "cert": "/etc.pem"},
            id="the user's file is where XDG says",
        ),
    ],
)
def test_pips_files_are_read_as_pip_reads_them(tmp_path: Path, env: dict[str, str], expected: dict[str, str]) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    placed = {key: value if value == os.devnull else str(tmp_path / value) for key, value in env.items()}
    assert read_pip_config(placed, tmp_path / "home", tmp_path / "venv", etc=tmp_path / "etc") == expected


def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(f"index-url = {WITH_PASSWORD}\n")
    with pytest.raises(LauncherError, match=r"pip\.conf cannot be read") as fault:
        read_pip_config({}, tmp_path / "home", tmp_path, etc=tmp_path / "etc")
    assert "secret" not in fault.value.message + fault.value.hint
