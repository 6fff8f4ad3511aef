"""Living beside what is there: a site, a firewall, weights and an endpoint of somebody else's stay what they were."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from orchestrator.files import data
from orchestrator.lab import Lab
from orchestrator.lock import Store
from orchestrator.lock.apt import fetch_debs, resolve_debs
from orchestrator.snapshot import HostSnapshot
from tests.lab.rig import Rig
from tests.lab.test_launcher_real import weights

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "lab-beside"
UP = ("up", "--lab", "--profile", "beside")
#: The program that stands in for somebody's vLLM: llama.cpp's server, as our own runtime starts it.
STAND_IN_PORT = 8000
OLLAMA = "/usr/share/ollama/.ollama/models/blobs"
FOREIGN_TABLE = """
table inet theirs {
  chain input {
    type filter hook input priority 10; policy accept;
    tcp dport 9999 counter drop comment "not ours"
  }
}
"""
#: What must be the same before and after: rules without their counters, configuration, the process, what it serves.
THEIRS = {
    "rules": "nft -s list ruleset",
    "ufw": "ufw status verbose; grep -h . /etc/ufw/*.rules /etc/ufw/ufw.conf /etc/default/ufw | sha256sum",
    "configuration": "find /etc/nginx /var/www -type f -exec sha256sum {} + | sort -k2",
    "process": "systemctl show nginx.service -p MainPID -p ActiveState -p UnitFileState -p LoadState",
    "package": "dpkg-query -W -f '${Status} ${Version} ${db:Status-Want}\\n' nginx ufw",
    "site": "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:80\").read())'",
    "weights": f"sha256sum {OLLAMA}/*; stat -c '%i %u %g %a %Y %h' {OLLAMA}/*",
}
NOTHING_OF_OURS = "ls -d /opt/agentrig /etc/systemd/system/agentrig-*; getent passwd agentrig-runtime agentrig-gateway"


def asks_for(rig: Rig, text: str) -> None:
    """Write the profile ``beside`` next to the lock."""
    (rig.folder / "profiles").mkdir(exist_ok=True)
    (rig.folder / "profiles/beside.yml").write_text(text)


@pytest.fixture(scope="module")
def beside(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig on a host that already has a site, two firewalls, foreign rules, and weights that Ollama left there."""
    models = tmp_path_factory.mktemp("ollama")
    environment = {"OLLAMA_MODELS": str(models), "HF_HOME": str(models / "none")}
    state = tmp_path_factory.mktemp("state")
    rig = Rig(tmp_path_factory.mktemp("empty"), state, (str(installed),), environment)
    asks_for(rig, "extends: cpu\nllm: {context_tokens: 1024}\n")
    (made,) = Lab(state / "lab").up({HOST: "debian-12"})
    (snapshot,) = rig.document("detect", "--lab")["hosts"]
    debs = closure(HostSnapshot.model_validate(snapshot), Store(tmp_path_factory.mktemp("theirs")))
    files = {f"debs/{name}": path for name, path in debs.items()} | {"small.gguf": weights()}
    files["launcher.py"] = data("templates") / "runtimes/xllamacpp_launcher.py"
    files["tools.jinja"] = data("templates") / "runtimes/smollm2-tools.jinja"
    packed = tmp_path_factory.mktemp("carried") / "all.tar"
    with tarfile.open(packed, "w") as archive:
        for name, path in files.items():
            archive.add(path, name)
    with packed.open("rb") as carried:
        subprocess.run([*made.ssh(), "tar -x -C /root"], stdin=carried, check=True)
    digest = hashlib.sha256(weights().read_bytes()).hexdigest()
    (models / "blobs").mkdir()
    (models / f"blobs/sha256-{digest}").symlink_to(weights())
    rig.read(HOST, "DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb && rm -r /root/debs")
    rig.read(HOST, f"mkdir -p {OLLAMA} && cp /root/small.gguf {OLLAMA}/sha256-{digest} && chmod 640 {OLLAMA}/*")
    rig.read(HOST, "systemctl start nginx firewalld && ufw --force enable && ufw allow 22/tcp")
    rig.read(HOST, f"nft -f - <<'RULES'\n{FOREIGN_TABLE}\nRULES")
    yield rig
    assert rig.run("lab", "down").returncode == 0


def closure(snapshot: HostSnapshot, store: Store) -> dict[str, Path]:
    """The packages of a site, two firewalls and somebody's own runtime, as the host's own apt would bring them."""
    debs = resolve_debs(snapshot, ("nginx", "ufw", "firewalld", "libgomp1"), store).debs
    fetch_debs(debs, snapshot, store)
    return {deb.filename: store.path(str(deb.digest)) for deb in debs}


def theirs(rig: Rig) -> dict[str, str]:
    """Give what of the host is not ours."""
    return {name: rig.read(HOST, command) for name, command in THEIRS.items()}


def served(host: dict[str, Any], text: str) -> str:
    """Have a short chat through the gateway."""
    base, token = host["endpoint"]["openai"], Path(host["endpoint"]["token_file"]).read_text().strip()
    own = {"Authorization": f"Bearer {token}"}
    llm = requests.get(f"{base}/models", headers=own, timeout=60).json()["data"][0]["id"]
    body = {"model": llm, "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
    answer = requests.post(f"{base}/chat/completions", json=body, headers=own, timeout=120).json()
    assert answer["choices"][0]["message"]["content"].strip()
    return str(llm)


def test_a_port_that_their_site_holds_is_refused_by_name_before_anything_is_changed(beside: Rig) -> None:
    site = "server { listen 127.0.0.1:8080; return 200 theirs; }"
    beside.read(HOST, f"echo '{site}' > /etc/nginx/conf.d/held.conf && systemctl reload nginx")
    done = beside.run(*UP, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (1, "apply")
    assert "port 8080 is taken by nginx" in error["what"]
    assert "gateway.port" in error["do"]
    assert beside.on(HOST, NOTHING_OF_OURS).stdout == ""


def test_up_beside_a_site_a_firewall_and_weights_changes_none_of_them(beside: Rig) -> None:
    asks_for(beside, "extends: cpu\nllm: {context_tokens: 1024}\ngateway: {port: 8090}\n")
    before = theirs(beside)
    (snapshot,) = beside.document("detect", "--lab")["hosts"]
    assert {"ufw", "firewalld", "nft inet theirs"} <= set(snapshot["firewalls"])
    done = beside.run(*UP, "--json")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    (host,) = json.loads(done.stdout)["hosts"]
    assert "from Ollama's files" in done.stderr
    assert [words for words in host["changes"] if "adopt" in words and OLLAMA in words], host["changes"]
    assert served(host, "Say hello.") == "smollm2-135m"
    assert theirs(beside) == before
    (again,) = beside.document(*UP)["hosts"]
    assert again["result"] == "unchanged"


def test_down_with_purge_leaves_their_package_site_and_rules(beside: Rig) -> None:
    before = theirs(beside)
    keep = "mkdir /srv/theirs && cp -a /opt/agentrig/current/artefacts/runtime/. /srv/theirs/ && mv /root/*.* /srv/"
    beside.read(HOST, keep)
    (host,) = beside.document("down", "--lab", "--purge")["hosts"]
    assert host["error"] is None
    assert beside.on(HOST, NOTHING_OF_OURS).stdout == ""
    assert theirs(beside) == before


def test_a_foreign_endpoint_is_found_and_served_through_the_gateway(beside: Rig) -> None:
    start = (
        "systemd-run --unit=theirs /srv/theirs/bin/python /srv/launcher.py -m /srv/small.gguf --alias small-of-theirs "
        f"--host 127.0.0.1 --port {STAND_IN_PORT} -c 2048 --jinja --chat-template-file /srv/tools.jinja"
    )
    ready = f"http://127.0.0.1:{STAND_IN_PORT}/health"
    answers = f"python3 -c 'import urllib.request as u; u.urlopen(\"{ready}\")'"
    beside.read(HOST, f"{start}; for i in $(seq 150); do {answers} 2>/dev/null && exit 0; sleep 0.2; done; exit 1")
    (snapshot,) = beside.document("detect", "--lab")["hosts"]
    (found,) = snapshot["endpoints"]
    assert (found["url"], found["kind"]) == (f"http://127.0.0.1:{STAND_IN_PORT}", "llama_cpp")
    assert (found["llms"], found["context_tokens"]) == (["small-of-theirs"], 2048)
    process = beside.read(HOST, "systemctl show theirs -p MainPID -p NRestarts")
    before = theirs(beside)

    asks_for(beside, "extends: external\nagents: []\ngateway: {port: 8090}\n")
    (host,) = beside.document(*UP)["hosts"]
    assert (host["result"], host["endpoint"]["anthropic"], host["stand_ins"]) == ("changed", None, [])
    assert any("Anthropic" in note and "not known" in note for note in host["notes"]), host["notes"]
    assert served(host, "Say hello.") == "small-of-theirs"
    lock = json.loads((beside.state / "lab/deploy.lock").read_text())
    assert lock["hosts"][HOST]["links"] == {}
    assert {one["kind"] for one in lock["artefacts"]} <= {"deb"}
    assert beside.on(HOST, "systemctl list-unit-files --no-legend 'agentrig-runtime*'").stdout == ""
    (status,) = beside.document("status", "--lab")["hosts"]
    assert (status["drift"], status["serving"]) == ([], True)
    (again,) = beside.document(*UP)["hosts"]
    assert again["result"] == "unchanged"

    (gone,) = beside.document("down", "--lab", "--purge")["hosts"]
    assert gone["error"] is None
    assert beside.read(HOST, "systemctl show theirs -p MainPID -p NRestarts") == process
    assert theirs(beside) == before


def test_an_endpoint_that_is_gone_is_told_before_anything_is_changed(beside: Rig) -> None:
    asks_for(
        beside,
        "extends: external\nagents: []\ngateway: {port: 8090}\nllm: {name: theirs, context_tokens: 2048}\n"
        "runtime: {name: external, url: 'http://127.0.0.1:8001/v1'}\n",
    )
    done = beside.run(*UP, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (1, "apply")
    assert "nothing answers at http://127.0.0.1:8001" in error["what"]
    assert beside.on(HOST, NOTHING_OF_OURS).stdout == ""
