"""The boot doctor: real logs tell their cause whatever stands around them, and never another cause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.catalog import loader
from orchestrator.catalog.loader import causes, load, profile
from orchestrator.doctor import (
    LEAST_WINDOW,
    UNKNOWN,
    Change,
    Finding,
    cleaned,
    diagnose,
    proposed,
)
from orchestrator.errors import CatalogError
from orchestrator.plan import plan
from orchestrator.profile import LlmWish, Profile
from orchestrator.snapshot import HostSnapshot

FIXTURES = Path(__file__).parents[1] / "fixtures"
CAUSES = causes()
DEPLOYMENT = plan(
    HostSnapshot.from_json((FIXTURES / "snapshots/debian12_4cpu_16gib_no_gpu.json").read_bytes()),
    profile(load(), "cpu"),
    load(),
)
#: A profile that fixes nothing.
ANY = Profile(name="any")


@dataclass(frozen=True)
class Log:
    name: str
    cause: str
    runtime: str | None
    source: str
    log: str

    @property
    def lines(self) -> list[str]:
        return self.log.splitlines()


LOGS = [
    Log(path.stem, **yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted((FIXTURES / "boot").glob("*.yml"))
]


def cause_of(text: str, runtime: str | None) -> str:
    return diagnose(cleaned(text), CAUSES, runtime).cause


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_a_real_log_tells_its_cause(log: Log) -> None:
    found = diagnose(cleaned(log.log), CAUSES, log.runtime)
    assert found.cause == log.cause
    assert found.means == CAUSES[log.cause].means
    assert found.lines
    assert all(any(shown[:60] in line for line in log.lines) for shown in found.lines)


def test_every_cause_was_seen_and_every_log_has_an_origin() -> None:
    assert {log.cause for log in LOGS} == set(CAUSES)
    assert all(log.source.startswith(("https://github.com/", "a run of our launcher")) for log in LOGS)


#: Causes of the driver and of containers: no sign of theirs is in another's log, and none of another's in theirs.
BELOW_THE_RUNTIME = frozenset(
    {name for name, row in CAUSES.items() if row.machine}
    | {"driver_too_old", "card_lost_to_container", "toolkit_missing", "image_missing"}
)


def test_ten_faults_and_more_of_driver_and_containers_are_known_with_a_command() -> None:
    assert len(BELOW_THE_RUNTIME) >= 14
    commands = ("apt-", "modprobe", "mokutil", "systemctl", "nvidia-ctk", "docker ", "printf", "deploy up", "usermod")
    told = {name for name in BELOW_THE_RUNTIME if any(command in CAUSES[name].do for command in commands)}
    assert told == BELOW_THE_RUNTIME - {"driver_too_old"}


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_each_log_tells_exactly_its_own_cause_of_those_below_the_runtime(log: Log) -> None:
    lines = cleaned(log.log)
    rows = CAUSES.values() if log.cause in BELOW_THE_RUNTIME else [CAUSES[name] for name in BELOW_THE_RUNTIME]
    told = {row.name for row in rows if any(sign.told(lines) for sign in row.signs)}
    assert told - {CAUSES[log.cause].part_of} == ({log.cause} if log.cause in BELOW_THE_RUNTIME else set())


#: Lines of other programs and of runtimes that go well, none of which says anything of an end.
NOISE = (
    "INFO 10-10 10:23:00 api_server.py:526] vLLM API server version 0.21.0",
    "WARNING 10-10 10:22:58 _custom_ops.py:18] Failed to import from vllm._C with ImportError('libcuda.so.1')",
    "0.00.008.453 I cmn  common_param: verbosity = 3 (adjust with the `-lv N` CLI arg)",
    "0.00.366.823 W srv          init: --cache-idle-slots requires --cache-ram, disabling",
    "llama_model_loader: - kv   3:                       llama.context_length u32              = 4096",
    "[2026-06-10 07:25:07 TP1] Load weight begin. avail mem=23.06 GB",
    "agentrig-runtime.service: Scheduled restart job, restart counter is at 3.",
    "nvidia: module verification failed: signature and/or required key missing - tainting kernel",
    "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024",
    "NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python3, Ch 00000008, MMU Fault",
    "nouveau 0000:01:00.0: DRM: VRAM: 2048 MiB",
    "docker.service: Deactivated successfully.",
    "Started docker.service - Docker Application Container Engine.",
    "Das Modell wird geladen, bitte warten",
    "サーバーを起動しています",
    "服务正在启动 请稍候",
    "Сервер запускается",
    "  0%|          | 0/52 [00:04<?, ?it/s]",
    "",
)
#: What stands before each line where the journal, a container or another worker writes it.
PREFIXES = (
    "",
    "Nov 23 08:00:01 rig agentrig-runtime[812]: ",
    "2026-11-23T08:00:01+0000 rig llama-server[812]: ",
    "vllm-1  | ",
    "(EngineCore_DP0 pid=283) ",
    "(Worker_TP1 pid=450) ",
    "[rank1]: ",
    "Nov 23 08:00:01 rig vllm[812]: (EngineCore pid=283) ",
)
COLOURS = ("", "\x1b[31m", "\x1b[1;33m", "\x1b[0;36m")


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[Log, str]:
    """A log with noise between its lines, with colours and prefixes, cut off somewhere."""
    log = draw(st.sampled_from(LOGS))
    first = draw(st.integers(0, max(0, len(log.lines) - 1)))
    last = draw(st.integers(first, len(log.lines)))
    prefixes = draw(st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2))
    colour = draw(st.sampled_from(COLOURS))
    lines: list[str] = []
    for number, line in enumerate(log.lines[first:last] if draw(st.booleans()) else log.lines):
        lines += draw(st.lists(st.sampled_from(NOISE), max_size=2))
        lines.append(f"{prefixes[number % len(prefixes)]}{colour}{line}{chr(27) + '[0m' if colour else ''}")
    text = "\n".join(lines)
    if draw(st.booleans()):
        begin = draw(st.integers(0, len(text)))
        text = text[begin : draw(st.integers(begin, len(text)))]
    return log, text


@settings(max_examples=600, deadline=None)
@given(disturbed())
def test_a_disturbed_log_tells_its_cause_or_none_but_never_another(given_log: tuple[Log, str]) -> None:
    log, text = given_log
    assert cause_of(text, log.runtime) in {log.cause, CAUSES[log.cause].part_of, UNKNOWN}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LOGS), st.sampled_from(PREFIXES), st.sampled_from(COLOURS), st.sampled_from(NOISE))
def test_prefixes_colours_and_noise_alone_hide_nothing(log: Log, prefix: str, colour: str, noise: str) -> None:
    text = "\n".join(f"{noise}\n{prefix}{colour}{line}" for line in log.lines)
    assert cause_of(text, log.runtime) == log.cause
    assert cause_of(text, None) == log.cause


@pytest.mark.parametrize("noise", NOISE)
def test_lines_that_say_nothing_of_an_end_are_unknown(noise: str) -> None:
    assert cause_of(noise, None) == UNKNOWN


def test_an_unknown_end_shows_the_lines_that_matter() -> None:
    log = "0.00.1.1 I srv init: initializing\nGGML_ASSERT(n_past >= 0) failed\nAborted (core dumped)\nStopped runtime."
    found = diagnose(cleaned(log), CAUSES, "llama_cpp", "one")
    assert (found.cause, found.host) == (UNKNOWN, "one")
    assert found.lines == ("GGML_ASSERT(n_past >= 0) failed", "Aborted (core dumped)")
    assert diagnose((), CAUSES).means == "it wrote nothing"


@pytest.mark.parametrize(
    "line",
    [
        "args: Namespace(host='0.0.0.0', api_key='s3cret-of-ours', port=1)",
        "args: Namespace(api_key=['s3cret-of-ours'], port=1)",
        "Authorization: Bearer s3cret-of-ours",
        "HF_TOKEN=hf_s3cretofours123",
        'config: {"password": "s3cret-of-ours"}',
        "the key is topmost, said nobody",
    ],
)
def test_no_secret_comes_out_of_a_log(line: str) -> None:
    (shown,) = cleaned(line, ["topmost"])
    assert "s3cret" not in shown
    assert "topmost" not in shown
    assert "[hidden]" in shown


def test_what_only_looks_like_a_secret_stays() -> None:
    line = "0.00.1.1 I load: EOS token        = 2 '<|im_end|>', api_key=None, n_tokens = 31"
    assert cleaned(line) == (line,)


def finding(cause: str, limit: int | None = None) -> Finding:
    return Finding(cause=cause, means="", change="", limit=limit)


def test_the_window_that_the_log_names_is_taken_in_whole_steps() -> None:
    deployment = DEPLOYMENT.model_copy(update={"context_tokens": 60000})
    changed = proposed(finding("window_too_long", 58384), CAUSES["window_too_long"], ANY, deployment)
    assert changed is not None
    assert changed[0].llm.context_tokens == 58368
    assert changed[1] == "context tokens 60000 -> 58368"


def test_where_the_log_names_none_the_window_is_halved_and_slots_go_first() -> None:
    row = CAUSES["memory_at_cache"]
    several = DEPLOYMENT.model_copy(update={"context_tokens": 32768, "slots": 4})
    alone = several.model_copy(update={"slots": 1})
    first, second = proposed(finding(row.name), row, ANY, several), proposed(finding(row.name), row, ANY, alone)
    assert first is not None
    assert (first[0].llm.slots, first[0].llm.context_tokens) == (2, None)
    assert second is not None
    assert second[0].llm.context_tokens == 16384


def test_a_window_is_not_made_smaller_than_an_agent_needs_and_advice_changes_nothing() -> None:
    small = DEPLOYMENT.model_copy(update={"context_tokens": LEAST_WINDOW, "slots": 1})
    for cause in ("memory_at_cache", "port_taken"):
        assert proposed(finding(cause), CAUSES[cause], ANY, small) is None
    assert CAUSES["cache_format"].changes == (Change(field="kv_dtype", how="set", value="f16"),)


def test_what_the_owner_fixed_is_left_as_he_wants_it() -> None:
    row = CAUSES["memory_at_cache"]
    several = DEPLOYMENT.model_copy(update={"context_tokens": 32768, "slots": 4})
    fixed = Profile(name="fixed", llm=LlmWish(slots=4))
    changed = proposed(finding(row.name), row, fixed, several)
    assert changed is not None
    assert (changed[0].llm.slots, changed[0].llm.context_tokens) == (4, 16384)
    both = Profile(name="both", llm=LlmWish(slots=4, context_tokens=32768))
    assert proposed(finding(row.name), row, both, several) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: {title: t, means: m, do: d, source: s, signs: [{patterns: ['(']}]}", "is no pattern"),
        ("a: {title: t, means: m, do: d, source: s, part_of: b, signs: [{patterns: [x]}]}", "no b below it"),
        ("a: {title: t, means: m, do: d, source: s, signs: [{patterns: [x]}], cure: y}", "unknown key cure"),
    ],
)
def test_a_row_that_cannot_be_is_refused(text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "causes.yml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(loader, "data", lambda _: tmp_path)
    with pytest.raises(CatalogError, match=told):
        causes()
