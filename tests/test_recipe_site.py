import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.recipe_site import ADDRESS, Answer, fetch
from tests.recipes_for_tests import REPO, Site, recipe

ANOTHER = "google/gemma-4-31B-it"

ANSWERS: dict[str, tuple[Site, str, str | None]] = {
    "a recipe": (Site.of(recipe()), REPO, f"/{REPO}.json"),
    "a recipe under a name in other letters": (Site.of(recipe(f"G{ANOTHER[1:]}")), ANOTHER, f"/G{ANOTHER[1:]}.json"),
    "no recipe": (Site.of(recipe()), "org/none", None),
    "an index that is none": (Site({"/models.json": "{}"}), REPO, None),
    "an index with a name that leads elsewhere": (Site({"/models.json": '[{"hf_id": "../x"}, 3]'}), REPO, None),
    "no site at all": (Site({}), REPO, None),
}


@pytest.mark.parametrize(("site", "repo", "path"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_recipe_is_found_by_its_repository(site: Site, repo: str, path: str | None) -> None:
    with site:
        found = fetch(repo, env={ADDRESS: f"{site.url}/"})
    if path is None:
        assert found == f"{site.url} has none for {repo}"
    else:
        assert isinstance(found, Answer)
        assert found.url == f"{site.url}{path}"
        assert found.content["hf_id"].lower() == repo.lower()


def test_a_mirror_may_be_a_folder_of_a_site() -> None:
    with Site.of(recipe()) as site:
        found = fetch(REPO, env={ADDRESS: f"{site.url}/mirror"})
    assert isinstance(found, Answer)
    assert site.asked == [f"/mirror/{REPO}.json"]


REFUSALS: dict[str, tuple[Site, str]] = {
    "a site that is down": (Site.of(recipe(), status=503), "503"),
    "no JSON": (Site({f"/{REPO}.json": "<html>"}), "is not JSON"),
    "more than a recipe can be": (Site({f"/{REPO}.json": " " * (9 << 20)}), "is larger than 8 MiB"),
}


@pytest.mark.parametrize(("site", "told"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_site_that_fails_is_a_reason_and_no_fault(site: Site, told: str) -> None:
    with site:
        found = fetch(REPO, env={ADDRESS: site.url})
    assert isinstance(found, str)
    assert found.startswith(f"{site.url} cannot be asked: ")
    assert told in found


def test_a_site_that_does_not_answer_is_not_waited_for() -> None:
    begun = time.monotonic()
    with Site.of(recipe(), wait=3.0) as site:
        found = fetch(REPO, env={ADDRESS: site.url}, patience=0.3)
        assert time.monotonic() - begun < 2
    assert isinstance(found, str)
    assert site.url in found


ADDRESSES: dict[str, dict[str, Any]] = {
    "nobody listens": {ADDRESS: "http://127.0.0.1:9"},
    "no address": {ADDRESS: "http://"},
    "no protocol": {ADDRESS: "recipes"},
    "another protocol": {ADDRESS: "ftp://127.0.0.1"},
}


@pytest.mark.parametrize("env", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_that_leads_nowhere_is_a_reason(env: dict[str, str]) -> None:
    found = fetch(REPO, env=env)
    assert isinstance(found, str)
    assert "cannot be asked" in found


def test_without_a_network_nothing_is_asked() -> None:
    with Site.of(recipe()) as site:
        assert fetch(REPO, env={ADDRESS: site.url, "HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE is set"
        assert site.asked == []


# The client takes proxies from the process's own environment.
ASK = "import os; from launcher.recipe_site import fetch; print(fetch('Org/Coder-7B', env=os.environ))"


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        pytest.param("{site}", "Answer(url='http://recipes.example/Org/Coder-7B.json'", id="a proxy that answers"),
        pytest.param("http://127.0.0.1:9", "http://recipes.example cannot be asked: ", id="a proxy that is not there"),
        pytest.param(
            "socks5://127.0.0.1:9", "http://recipes.example cannot be asked: ", id="a proxy that needs another package"
        ),
        pytest.param("no proxy", "http://recipes.example cannot be asked: ", id="a proxy with no address"),
    ],
)
def test_the_environments_proxy_is_asked(proxy: str, told: str) -> None:
    with Site.of(recipe()) as site:
        env = {**os.environ, "http_proxy": proxy.format(site=site.url), ADDRESS: "http://recipes.example"}
        env = {key: value for key, value in env.items() if key.lower() not in {"all_proxy", "no_proxy"}}
        root = Path(__file__).parent.parent
        done = subprocess.run([sys.executable, "-c", ASK], env=env, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(told), done.stdout
