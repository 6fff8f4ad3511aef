"""Coding agents: what plan refuses, what is rendered for each, who has which token, what verify makes of the log."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.catalog.loader import load, profile
from orchestrator.errors import NoFit, ProfileError
from orchestrator.files import data
from orchestrator.people import AGENT_USER, clients_of, slug_of
from orchestrator.plan import plan, rehearse
from orchestrator.profile import LlmWish, Profile
from orchestrator.render import render
from orchestrator.render.agents import parts_of_agent
from orchestrator.render.agents.shared import in_double_quotes
from orchestrator.rendered import Rendered
from orchestrator.snapshot import HostSnapshot
from orchestrator.verify.agents import judged, requests_of

CATALOG = load()
SNAPSHOT = HostSnapshot.from_json(
    (Path(__file__).parent.parent / "fixtures/snapshots/debian12_4cpu_16gib_no_gpu.json").read_text(encoding="utf-8")
)
ODD = "Jürgen \"O'B $x`"
PEOPLE = ("ada", ODD)
FREE = {"Apache-2.0", "MIT"}


def asked(**changes: Any) -> Profile:
    return profile(CATALOG, "cpu-agents").model_copy(update=changes)


def rendering(**changes: Any) -> Rendered:
    return render(plan(SNAPSHOT, asked(**changes), CATALOG), CATALOG)


def content(rendered: Rendered, path: str) -> str:
    return next(file.content for file in rendered.files if file.path == path)


def test_an_agent_that_nothing_sets_up_is_refused_with_those_that_there_are() -> None:
    known = {name: CATALOG.agents[name] for name in ("aider", "opencode")}
    catalog = CATALOG.model_copy(update={"agents": known})
    with pytest.raises(ProfileError, match="nothing sets up the agent cline yet") as caught:
        plan(SNAPSHOT, asked(agents=("aider", "cline")), catalog)
    assert caught.value.do.endswith("there are aider, opencode")


def test_no_profile_of_the_catalog_names_an_agent_that_is_not_free() -> None:
    free = {"aider", "opencode", *(name for name, row in CATALOG.agents.items() if row.licence in FREE)}
    assert {name for one in CATALOG.profiles.values() for name in one.agents} <= free
    assert "claude_code" not in free


def test_an_agent_whose_wire_form_is_not_spoken_is_refused() -> None:
    row = CATALOG.runtimes["xllamacpp"]
    mute = row.model_copy(update={"openai": row.openai.model_copy(update={"spoken": False, "why": "it is mute"})})
    catalog = CATALOG.model_copy(update={"runtimes": {**CATALOG.runtimes, "xllamacpp": mute}})
    with pytest.raises(NoFit, match=r"it speaks the openai wire form, and .* does not \(it is mute\)"):
        plan(SNAPSHOT, asked(), catalog)


def test_an_agent_whose_first_request_leaves_no_room_is_refused_with_the_figures() -> None:
    wish = LlmWish(name="smollm2-135m", quant="Q4_1", context_tokens=4992, output_tokens=256, slots=1)
    with pytest.raises(NoFit, match="about 4800 tokens and an answer 256, and the window has 4992") as caught:
        plan(SNAPSHOT, asked(llm=wish), CATALOG)
    assert "OpenCode" in caught.value.what
    assert plan(SNAPSHOT, asked(llm=wish, agents=("aider",)), CATALOG).agents == ("aider",)


def test_an_agent_that_leaves_little_of_the_window_is_told_so_with_its_trimmed_form() -> None:
    row = CATALOG.agents["claude_code"]
    (said,) = [one for one in plan(SNAPSHOT, asked(agents=("claude_code",)), CATALOG).reasons if row.title in one]
    assert f"{row.untrimmed_tokens} of the window's 8192 tokens" in said
    assert f"trimmed to {row.first_request_tokens}" in said
    assert f"leaves {8192 - row.first_request_tokens - 256} for the work" in said
    assert not [one for one in plan(SNAPSHOT, asked(agents=("aider",)), CATALOG).reasons if "Aider" in one]


def test_a_profile_may_shorten_answers_and_a_rehearsal_does() -> None:
    decided = plan(SNAPSHOT, asked(), CATALOG)
    assert decided.output_tokens == 256
    long = asked(llm=asked().llm.model_copy(update={"output_tokens": 100_000}))
    assert plan(SNAPSHOT, long, CATALOG).output_tokens == decided.context_tokens // 4
    real = decided.model_copy(update={"llm": "qwen3.6-27b", "quant": CATALOG.llms["qwen3.6-27b"].quants[0].quant})
    served, stand_ins = rehearse(real.model_copy(update={"output_tokens": 8192}), SNAPSHOT, CATALOG)
    assert served.output_tokens == 256
    assert "answers of up to 8192 tokens" in [one.what for one in stand_ins]


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a\nb", "x" * 33])
def test_a_name_that_no_account_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Profile(name="p", people=(name,))


@pytest.mark.parametrize(
    "name", ["ada", ODD, "имя", "$(id)", '"; return 200 "', "Ada", "-", "{{secret:gateway_token}}"]
)
def test_a_slug_is_a_safe_word_and_no_two_share_one(name: str) -> None:
    slug = slug_of(name)
    assert re.fullmatch(r"person-[a-z0-9_-]+", slug)
    assert slug == slug_of(name)
    assert slug != slug_of(name + "a")
    assert slug_of("Ada") != slug_of("ada")
    assert slug_of(slug.removeprefix("person-")) != slug or slug_of(name) == f"person-{name}"


def test_everybody_has_one_token_that_is_his_alone() -> None:
    rendered = rendering(people=PEOPLE)
    tokens = {file.path: file for file in rendered.files if file.path.startswith("agents/tokens/")}
    assert {(file.owner, file.mode) for file in tokens.values()} == {
        ("ada", "0400"),
        (ODD, "0400"),
        (AGENT_USER, "0400"),
    }
    assert all(len(file.secrets) == 1 for file in tokens.values())
    assert len({file.secrets for file in tokens.values()}) == len(tokens)
    gateway = content(rendered, "gateway/tokens.conf")
    for client in clients_of(plan(SNAPSHOT, asked(people=PEOPLE), CATALOG)):
        assert gateway.count(f'{{{{secret:{client.secret}}}}}$" {client.slug};') == 2
    assert ODD not in "".join(file.content for file in rendered.files if file.path != "deployment.json")
    assert rendered.variables["host_base_people"] == list(PEOPLE)


def test_without_agents_there_is_no_user_to_try_them_as() -> None:
    rendered = rendering(agents=(), people=("ada",))
    assert AGENT_USER not in [user.name for user in rendered.users]
    assert [file.path for file in rendered.files if file.path.startswith("agents/")] == ["agents/tokens/person-ada"]
    assert set(rendered.artefacts) == {"llm", "runtime"}


def test_every_setting_that_matters_comes_from_the_deployment() -> None:
    decided = plan(SNAPSHOT, asked(), CATALOG).model_copy(
        update={"context_tokens": 7000, "output_tokens": 300, "served_name": "org/the-llm", "gateway_port": 9999}
    )
    rendered = render(decided, CATALOG)
    options = json.loads(content(rendered, "agents/aider/aider.conf.yml"))
    assert options["model"] == options["weak-model"] == options["editor-model"] == "openai/org/the-llm"
    assert options["openai-api-base"] == "http://127.0.0.1:9999/v1"
    (about,) = json.loads(content(rendered, "agents/aider/settings.yml"))
    sizes = json.loads(content(rendered, "agents/aider/sizes.json"))["openai/org/the-llm"]
    assert about["extra_params"]["max_tokens"] == sizes["max_output_tokens"] == 300
    assert sizes["max_input_tokens"] == 7000
    opencode = json.loads(content(rendered, "agents/opencode/opencode.json"))
    local = opencode["provider"]["local"]
    assert local["models"]["org/the-llm"]["limit"] == {"context": 7000, "output": 300}
    assert local["options"]["baseURL"] == "http://127.0.0.1:9999/v1"
    assert opencode["model"] == opencode["small_model"] == "local/org/the-llm"


def test_an_llm_that_the_catalog_does_not_know_can_be_served_to_agents() -> None:
    decided = plan(SNAPSHOT, asked(), CATALOG).model_copy(update={"llm": "nobody-knows"})
    for row in CATALOG.agents.values():
        assert parts_of_agent(row, decided, CATALOG).files


def hooked(root: Path, tool: str, **parameters: Any) -> dict[str, Any]:
    event = {"workspaceRoots": [str(root)], "preToolUse": {"toolName": tool, "parameters": parameters}}
    hook = data("templates") / "agents/keep_to_tree.py"
    done = subprocess.run(
        [sys.executable, "-I", str(hook)], input=json.dumps(event), capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_cline_may_read_and_write_in_its_tree_alone(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "inside").mkdir(parents=True)
    (root / "leads-out").symlink_to("/etc")
    assert hooked(root, "editor", path="inside/new.py", new_text="../x") == {}
    assert hooked(root, "read_files", files=[{"path": str(root / "a")}]) == {}
    assert hooked(root, "search_codebase", queries=["/etc/passwd"]) == {}
    for path in (
        "../x",
        "/etc/passwd",
        "leads-out/passwd",
        f"{root}-beside/x",
        ".git/hooks/pre-commit",
        ".clinerules/x",
    ):
        found = hooked(root, "editor", path=path, new_text="x")
        assert found["overrideInput"] == {}, path
        assert path in found["context"]
    assert "outside" in hooked(root, "read_files", files=[{"path": "a"}, {"path": "/etc/passwd"}])["context"]
    assert hooked(root, "read_files", files=[{"path": ".git/config"}]) == {}


def test_what_cline_asks_in_another_way_is_refused(tmp_path: Path) -> None:
    assert hooked(tmp_path, "run_commands", commands=["true"])["cancel"] is True
    hook = data("templates") / "agents/keep_to_tree.py"
    for text in ("", "[]", "{}", '{"preToolUse": {"toolName": "editor", "parameters": {"path": "x"}}}'):
        done = subprocess.run([sys.executable, "-I", str(hook)], input=text, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["cancel"] is True


def test_cline_is_told_the_window_and_has_no_shell() -> None:
    rendered = rendering(agents=("cline",))
    told = json.loads(content(rendered, "agents/cline/providers.json"))["providers"]["openai-compatible"]["settings"]
    assert (told["contextWindow"], told["baseUrl"]) == (8192, "http://127.0.0.1:8080/v1")
    assert "apiKey" not in told
    assert {"run_commands", "fetch_web_content"} <= set(
        json.loads(content(rendered, "agents/cline/global-settings.json"))["disabledTools"]
    )


def test_continue_is_told_the_window_in_one_file_and_its_permissions_in_its_command() -> None:
    rendered = rendering(agents=("continue",))
    (told,) = json.loads(content(rendered, "agents/continue/config.yaml"))["models"]
    assert told["defaultCompletionOptions"]["contextLength"] == 8192
    assert told["defaultCompletionOptions"]["maxTokens"] == 256
    assert told["apiKey"] == "${{ secrets.AGENTRIG_TOKEN }}"
    assert json.loads(content(rendered, "agents/continue/settings.json")) == {"disableAllHooks": True}
    command = content(rendered, "agents/continue/cn")
    assert "bin/node /opt/agentrig/current/artefacts/continue/bin/cn" in command
    for tool in ("Bash", "Fetch", "mcp__*"):
        assert f"--exclude '{tool}'" in command
    assert 'ln -sfn /opt/agentrig/current/agents/continue/settings.json "$state/settings.json"' in command


def test_qwen_code_is_told_the_window_and_may_write_in_its_tree_alone() -> None:
    wish = asked().llm.model_copy(update={"context_tokens": 8192, "output_tokens": 128})
    rendered = rendering(agents=("qwen_code",), llm=wish)
    told = json.loads(content(rendered, "agents/qwen_code/settings.json"))
    (provider,) = told["modelProviders"]["openai"]
    assert provider["generationConfig"]["contextWindowSize"] == 8192
    assert provider["generationConfig"]["samplingParams"]["max_tokens"] == 128
    assert provider["baseUrl"] == "http://127.0.0.1:8080/v1"
    assert told["permissions"]["allow"] == ["Edit(./**)"]
    assert {"run_shell_command", "web_fetch"} <= set(told["permissions"]["deny"])
    assert told["context"]["autoCompactThreshold"] * 8192 <= 8192 - 64
    assert told["disableAllHooks"] is True


def wrapped(tmp_path: Path, name: str, *, tokens: dict[str, int]) -> subprocess.CompletedProcess[str]:
    """Run a wrapper of its own place: a folder in the release's stead, and a program that says what it was given."""
    short = asked().llm.model_copy(update={"output_tokens": 128})
    rendered, row = rendering(agents=(name,), llm=short), CATALOG.agents[name]
    folder = tmp_path / "current"
    (folder / "agents/tokens").mkdir(parents=True)
    for token, mode in tokens.items():
        (folder / "agents/tokens" / token).write_text(f"secret-{token}\n")
        (folder / "agents/tokens" / token).chmod(mode)
    # The node that comes with an agent is what is started.
    program = folder / f"artefacts/{name}/bin/{'node' if row.install.node else row.command}"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nenv; for word; do echo "word $word"; done\n')
    program.chmod(0o755)
    command = tmp_path / name
    command.write_text(content(rendered, f"agents/{name}/{row.command}").replace("/opt/agentrig/current", str(folder)))
    command.chmod(0o755)
    home = tmp_path / 'a "home" $x'
    return subprocess.run(
        [str(command), "a task", "$HOME"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_claude_code_is_told_the_same_in_its_settings_and_around_it() -> None:
    rendered = rendering(agents=("claude_code",), llm=asked().llm.model_copy(update={"output_tokens": 512}))
    told = json.loads(content(rendered, "agents/claude_code/settings.json"))
    command = content(rendered, "agents/claude_code/claude")
    for name, value in told["env"].items():
        assert f'export {name}="{value}"' in command
    assert told["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8080"
    assert told["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "8192"
    assert told["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "512"
    assert int(told["env"]["CLAUDE_AUTOCOMPACT_PCT_OVERRIDE"]) * 8192 / 100 <= 8192 - 512
    assert told["env"]["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
    assert set(told["permissions"]["deny"]) >= {"Bash", "WebFetch", "WebSearch", "mcp__*"}
    assert "--restricted" in command


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("aider", "OPENAI_API_KEY"),
        ("opencode", "AGENTRIG_TOKEN"),
        ("claude_code", "ANTHROPIC_AUTH_TOKEN"),
        ("cline", "OPENAI_API_KEY"),
        ("continue", "AGENTRIG_TOKEN"),
        ("qwen_code", "OPENAI_API_KEY"),
    ],
)
def test_the_command_puts_the_callers_token_around_the_program(tmp_path: Path, name: str, variable: str) -> None:
    done = wrapped(tmp_path, name, tokens={"person-me": 0o400})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"{variable}=secret-person-me" in lines
    assert lines[-2:] == ["word a task", "word $HOME"]
    assert (tmp_path / f'a "home" $x/.local/state/agentrig/{name}').is_dir()
    if name == "opencode":
        said = next(line for line in lines if line.startswith("OPENCODE_PERMISSION="))
        assert json.loads(said.partition("=")[2])["*"] == "deny"


def test_the_command_says_so_where_the_caller_has_no_token(tmp_path: Path) -> None:
    done = wrapped(tmp_path, "aider", tokens={})
    assert done.returncode == 1
    assert done.stderr.startswith("aider: you have no token on this host")


def test_a_value_is_one_word_of_sh() -> None:
    value = 'a "b" `c` \\ $d $state/e'
    done = subprocess.run(
        ["sh", "-c", f"state=/s; printf %s {in_double_quotes(value)}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'a "b" `c` \\ $d /s/e'


def line(status: int = 200, path: str = "/v1/chat/completions", *, sent: int = 1234) -> str:
    return f"{AGENT_USER} 127.0.0.1 POST {path} -> {status} in 1.5s, 9487 bytes in, {sent} bytes out"


def outcome(*lines: str, **changes: Any) -> dict[str, Any]:
    return {
        "exit_code": 0,
        "seconds": 12.3,
        "timed_out": False,
        "requests": list(lines),
        "diff": " greeting.py | 2 +-\n 1 file changed\n",
        "new_files": [],
        "said": "all is well\n",
        **changes,
    }


JUDGED: dict[str, tuple[dict[str, Any] | str, str, float | None, str]] = {
    "answered": (outcome(line(), line()), "passed", 2, "2 x POST /v1/chat/completions -> 200"),
    "one of two answered": (outcome(line(400), line()), "passed", 1, "1 x POST /v1/chat/completions -> 400"),
    "answered and failed for itself": (outcome(line(), exit_code=1), "passed", 1, "it ended with 1 after 12 s"),
    "stopped": (outcome(line(), timed_out=True), "passed", 1, "stopped at its time limit"),
    "silent and content": (outcome(), "failed", 0, "none reached the gateway; it ended with 0: all is well"),
    "refused": (outcome(line(401)), "failed", 0, "none was answered: 1 x POST /v1/chat/completions -> 401"),
    "cut off": (outcome(line(sent=196)), "failed", 0, "-> 200, cut off before its first word"),
    "elsewhere": (outcome(line(path="/v1/models")), "failed", 0, "none was answered"),
    "garbled": (outcome("agentrig-agent says hello"), "failed", 0, "none reached the gateway"),
    "not tried": ("the host had not answered after 300 s", "failed", None, "the host had not answered"),
}


@pytest.mark.parametrize("case", JUDGED)
def test_what_counts_is_what_the_gateway_logged(case: str) -> None:
    given, result, figure, said = JUDGED[case]
    found = judged(CATALOG.agents["aider"], given)
    assert (found.area, found.result, found.figure) == ("agents", result, figure)
    assert said in found.detail


def test_a_line_of_the_log_is_read_as_its_configuration_writes_it() -> None:
    (seen,) = requests_of([line(499)])
    assert seen == ("POST", "/v1/chat/completions", 499, 1234)
    form = content(rendering(), "gateway/nginx.conf")
    assert "$client_or_nobody $remote_addr $request_method $uri -> $status '" in form
    assert "'in ${request_time}s, $request_length bytes in, $bytes_sent bytes out';" in form
    assert "tag=agentrig_gateway," in form


@pytest.mark.parametrize("agent", ["cline", "continue", "qwen_code"])
def test_what_closes_the_way_out_is_around_the_program_alone(agent: str) -> None:
    row = CATALOG.agents[agent]
    decided = plan(SNAPSHOT, asked(agents=(agent,), llm=LlmWish(context_tokens=32768)), CATALOG)
    parts = parts_of_agent(row, decided, CATALOG)
    assert not {"HTTPS_PROXY", "https_proxy"} & parts.environment.keys()
    lines = content(render(decided, CATALOG), f"agents/{agent}/{row.command}").splitlines()
    assert 'export HTTPS_PROXY="http://127.0.0.1:9/"' in lines
