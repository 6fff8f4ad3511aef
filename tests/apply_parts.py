"""Parts for the tests of apply: tiny packages, wheels and renderings made on the spot, each a stand-in named so."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import io
import os
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.deployment import Deployment, LedgerRow
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.rendered import CURRENT, Rendered, RenderedFile, RenderedLink, RenderedUnit, RenderedUser
from orchestrator.snapshot import Listener

SECRETS = {"gateway_token": "token-that-must-not-leak-0123456789", "runtime_key": "key-that-must-not-leak-9876543210"}
RUNTIME, GATEWAY = "agentrig-runtime.service", "agentrig-gateway.service"

#: Stands in for a runtime: answers /health, and tells what its weights and its settings are.
SERVER = '''"""A stand-in for a runtime: an HTTP server of the standard library in a package of the tests."""

import http.server
import os
import pathlib
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ.get("GREETING", "") + pathlib.Path(sys.argv[2]).read_text()).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
'''


@dataclass
class Parts:
    """A store of the tests, and what was put into it."""

    root: Path
    artefacts: list[Artefact] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.root / "store"

    def put(self, content: bytes, **about: object) -> Artefact:
        digest = hashlib.sha256(content).hexdigest()
        path = self.store / "sha256" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        artefact = Artefact.model_validate(
            {"digest": f"sha256:{digest}", "bytes": len(content), "source": "test:made on the spot", **about}
        )
        self.artefacts.append(artefact)
        return artefact

    def weights(self, content: bytes = b"stand-in for weights") -> Artefact:
        return self.put(content, kind="file", name="stand-in-llm", version="1", filename="stand-in.gguf")

    def wheel(self, name: str = "agentrig_test_server", version: str = "1.0") -> Artefact:
        content = wheel_bytes(name, version, {f"{name}/__init__.py": "", f"{name}/__main__.py": SERVER})
        filename = f"{name}-{version}-py3-none-any.whl"
        return self.put(content, kind="wheel", name=name.replace("_", "-"), version=version, filename=filename)

    def venv(self, *wheels: Artefact) -> Artefact:
        key = hashlib.sha256(" ".join(sorted(wheel.key for wheel in wheels)).encode()).hexdigest()
        artefact = Artefact(
            kind="venv",
            name="stand-in-runtime",
            version="1.0",
            digest=f"sha256:{key}",
            source="built",
            parts=tuple(wheel.id for wheel in wheels),
        )
        self.artefacts.append(artefact)
        return artefact

    def deb(self, name: str, files: dict[str, bytes], *, version: str = "1.0", **scripts: str) -> Artefact:
        return self.put(deb_bytes(self.root / "debs", name, version, files, scripts), kind="deb", name=name,
                        version=version, filename=f"{name}_{version}_all.deb")  # fmt: skip

    def lock(self, links: dict[str, Artefact], debs: tuple[Artefact, ...], name: str = "rig") -> Lock:
        return Lock(
            agentrig="0",
            hosts={
                name: HostLock(
                    profile_digest="0",
                    hardware_digest="0",
                    deployment=deployment(name),
                    links={link: artefact.id for link, artefact in links.items()},
                    debs=tuple(deb.id for deb in debs),
                    packages=tuple(deb.name for deb in debs),
                )
            },
            artefacts=tuple({artefact.id: artefact for artefact in self.artefacts}.values()),
        )


def deployment(host: str) -> Deployment:
    row = LedgerRow(gpu="cpu", weights_mib=1, kv_mib=1, compute_mib=1, reserve_mib=1, capacity_mib=10)
    return Deployment(
        host=host, profile="test", llm="stand-in", served_name="stand-in", quant="none", runtime="llama_cpp",
        context_tokens=1024, kv_dtype="f16", output_tokens=128, agentic_class="demonstration", ledger=(row,),
        confidence="exact", reasons=("a test",),
    )  # fmt: skip


def wheel_bytes(name: str, version: str, files: dict[str, str]) -> bytes:
    about = f"{name}-{version}.dist-info"
    texts = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record(text.encode())}\n" for path, text in texts.items()) + f"{about}/RECORD,,\n"
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path, text in (texts | {f"{about}/RECORD": record}).items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return written.getvalue()


def _record(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"sha256={digest},{len(content)}"


def deb_bytes(folder: Path, name: str, version: str, files: dict[str, bytes], scripts: dict[str, str]) -> bytes:
    tree = folder / name
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: tests <root@localhost>\n"
        f"Description: a stand-in package of the tests\n"
    )
    for script, text in scripts.items():
        (control / script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        (control / script).chmod(0o755)
    built = folder / f"{name}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(built)]
    same_bytes = os.environ | {"SOURCE_DATE_EPOCH": "1577836800"}
    subprocess.run(command, check=True, capture_output=True, env=same_bytes)
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    return built.read_bytes()


def pip_deb(parts: Parts) -> Artefact:
    """A stand-in for the distribution's package with pip's wheel: the wheel that this interpreter brings."""
    wheel = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    return parts.deb("agentrig-test-pip-whl", {f"usr/share/python-wheels/{wheel.name}": wheel.read_bytes()})


def nginx_deb(parts: Parts) -> Artefact:
    """A stand-in for nginx: a package that starts its own unit on port 80 when it is installed, and forgets a file."""
    unit = "[Service]\nExecStart=/usr/bin/python3 -m http.server 80\n[Install]\nWantedBy=multi-user.target\n"
    litter = "mkdir -p /var/www/html; echo hello > /var/www/html/index.nginx-debian.html\n"
    start = litter + "deb-systemd-helper enable nginx.service || :\ndeb-systemd-invoke start nginx.service || :"
    purge = 'if [ "$1" = purge ]; then deb-systemd-helper purge nginx.service || :; fi'
    return parts.deb("nginx", {"lib/systemd/system/nginx.service": unit.encode()}, postinst=start, postrm=purge)


def unit_text(port: int, user: str, words: str, *, more: str = "") -> str:
    return (
        f"[Unit]\nDescription=a stand-in\n[Service]\nUser={user}\nEnvironment=PYTHONDONTWRITEBYTECODE=1\n"
        f"{more}ExecStart={words.format(port=port)}\nRestart=on-failure\nRestartSec=1\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def rendered(*, greeting: str = "hello ", runtime_port: int = 18080) -> Rendered:
    python = f"{CURRENT}/artefacts/runtime/bin/python -m agentrig_test_server {{port}}"
    runtime = unit_text(
        runtime_port, "agentrig-runtime", f"{python} {CURRENT}/artefacts/llm/stand-in.gguf",
        more=f"EnvironmentFile={CURRENT}/runtime/environment\nLogsDirectory=agentrig-runtime\n",
    )  # fmt: skip
    gateway = unit_text(8080, "agentrig-gateway", f"{python} {CURRENT}/gateway/tokens")
    files = (
        RenderedFile(path=f"units/{RUNTIME}", content=runtime),
        RenderedFile(path=f"units/{GATEWAY}", content=gateway),
        RenderedFile(path="runtime/environment", content=f"GREETING={greeting!r}\nKEY={{{{secret:runtime_key}}}}\n",
                     mode="0640", group="agentrig-runtime"),
        RenderedFile(path="gateway/tokens", content="Bearer {{secret:gateway_token}}\n", mode="0640",
                     group="agentrig-gateway"),
        RenderedFile(path="runtime/chat.jinja", content="{% for message in messages %}{{ message }}{% endfor %}\n"),
    )  # fmt: skip
    return Rendered(
        deployment_digest="0",
        files=files,
        links=(RenderedLink(path="/etc/agentrig-test.jinja", target=f"{CURRENT}/runtime/chat.jinja"),),
        units=(RenderedUnit(name=RUNTIME), RenderedUnit(name=GATEWAY)),
        users=tuple(RenderedUser(name=f"agentrig-{name}") for name in ("agent", "gateway", "runtime")),
        listeners=(
            Listener(protocol="tcp", address="127.0.0.1", port=runtime_port, program="python"),
            Listener(protocol="tcp", address="127.0.0.1", port=8080, program="python"),
        ),
        artefacts=("llm", "runtime"),
        packages=("nginx",),
        variables={
            "gpu_driver_files": [
                {"path": "/etc/modprobe.d/agentrig-nouveau.conf", "content": "# of a test\n"},
                {"path": "/etc/apt/apt.conf.d/53agentrig-driver", "content": "// of a test\n"},
            ]
        },
    )
