"""The gateway as it is rendered, run here in a folder of one's own: real nginx and njs, no host."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.profile import Sandbox
from orchestrator.render import render
from orchestrator.render.gateway import CLIENTS, NJS
from orchestrator.rendered import CURRENT
from tests.lab.test_launcher_gateway import free_port, wait_for
from tests.unit.rendering import CATALOG, CPU

SECRETS = {"gateway_token": "Person-Token_1", "runtime_key": "Runtime-Key_2"}
TOKEN = "a-Sandbox-token_of-one-person"
CAP = 64
PACKAGES = ("nginx", "nginx-common", "libnginx-mod-http-js")


class Gateway:
    """nginx with the rendered files moved under the test's own, its clients' folder and its log."""

    def __init__(self, folder: Path, port: int, runtime_port: int) -> None:
        self.port, self.runtime_port = port, runtime_port
        self.clients, self.log = folder / "clients", folder / "log"
        #: The first process of nginx, 0 until it runs.
        self.pid = 0

    def admit(self, token: str = TOKEN, **about: Any) -> Path:
        known = {"name": "sandbox-0-one", "expires": None, "output_tokens": CAP, "requests_per_minute": None} | about
        path = self.clients / f"{hashlib.sha256(token.encode()).hexdigest()}.json"
        path.write_text(json.dumps(known))
        return path

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        connection.request(method, path, sent, {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def reached(self, path: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Give the body that the runtime was given."""
        status, text = self.ask(path, body, headers)
        assert status == 200, text
        told = json.loads(text)["sent"]
        assert isinstance(told, dict)
        return told

    def used(self) -> list[dict[str, Any]]:
        time.sleep(0.2)
        return [json.loads(line[line.index("{") :]) for line in self.log.read_text().splitlines() if "prompt_t" in line]


def nginx_root() -> Path:
    """Give the packaged nginx with njs, taken apart in a cache of the tests and never installed."""
    cache = Path.home() / ".cache/agentrig/tests/nginx-njs"
    if not (cache / "root/usr/sbin/nginx").exists() or not (cache / f"root{NJS}").exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-q", "download", *PACKAGES], cwd=cache, check=True)
        for package in cache.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, cache / "root"], check=True)
    return cache / "root"


@contextmanager
def gateway_in(folder: Path) -> Iterator[Gateway]:
    """Run the gateway of a deployment with sandboxes before whatever listens on its runtime's port."""
    root = nginx_root()
    ports = {"runtime_port": free_port(), "gateway_port": free_port()}
    deployment = CPU.model_copy(update={"sandbox": Sandbox(), **ports})
    found = Gateway(folder, deployment.gateway_port, deployment.runtime_port)
    found.clients.mkdir()
    moved = {CURRENT: str(folder), CLIENTS: str(found.clients), NJS: f"{root}{NJS}"}
    for file in render(deployment, CATALOG).files:
        if not file.path.startswith("gateway/"):
            continue
        text = file.filled(SECRETS)
        for there, here in moved.items():
            text = text.replace(there, here)
        # The bridge is a host's; what it would write to a journal is written to a file.
        text = re.sub(r"listen 10\.87\.0\.1:\d+;", "", text)
        text = re.sub(r"access_log syslog:\S+ (used if=\S+);", rf"access_log {found.log} \1;", text)
        text = re.sub(r"access_log syslog:\S+ readable;", f"access_log {folder}/requests readable;", text)
        (folder / file.path).parent.mkdir(exist_ok=True)
        (folder / file.path).write_text(text)
    command = [str(root / "usr/sbin/nginx"), "-e", "stderr", "-p", f"{folder}/", "-c", f"{folder}/gateway/nginx.conf"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    with subprocess.Popen([*command, "-g", "daemon off;user root;"]) as nginx:
        try:
            wait_for(deployment.gateway_port)
            found.pid = nginx.pid
            yield found
        finally:
            nginx.terminate()
