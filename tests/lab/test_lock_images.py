"""Images of a registry by digest, from a real one on a loopback port."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from orchestrator.errors import LockError
from orchestrator.lock import Store, images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
OCI = "application/vnd.oci.image"


def installed(command: str, package: str) -> None:
    """Have a program that only this test needs."""
    if shutil.which(command) is None:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(
            ["apt-get", "install", "-qq", "--no-install-recommends", package],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of Debian's package, empty, on a port of 127.0.0.1."""
    installed("docker-registry", "docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yml").write_text(CONFIGURATION.format(folder=folder / "data", port=port))
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        ["docker-registry", "serve", folder / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as served:
        try:
            for _ in range(150):
                try:
                    assert requests.get(f"{address}/v2/", timeout=5).ok
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield address
        finally:
            served.terminate()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_blob(address: str, content: bytes) -> dict[str, Any]:
    """Put a blob into the registry; give how a manifest names it."""
    begun = requests.post(f"{address}/v2/maker/tool/blobs/uploads/", timeout=10)
    where = begun.headers["Location"]
    done = requests.put(
        f"{where}{'&' if '?' in where else '?'}digest={digest(content)}",
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        timeout=10,
    )
    assert done.status_code == 201, done.text
    return {"digest": digest(content), "size": len(content)}


def push_manifest(address: str, reference: str, document: Mapping[str, Any]) -> dict[str, Any]:
    content = json.dumps(document).encode()
    kind = str(document["mediaType"])
    done = requests.put(
        f"{address}/v2/maker/tool/manifests/{reference}", data=content, headers={"Content-Type": kind}, timeout=10
    )
    assert done.status_code == 201, done.text
    return {"mediaType": kind, "digest": digest(content), "size": len(content)}


def layer(text: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("etc/tool")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return gzip.compress(packed.getvalue(), mtime=0)


def push(address: str, tag: str, text: bytes) -> None:
    """Put an image into the registry: an index with one manifest for each of two machines."""
    listed = []
    for architecture in ("amd64", "arm64"):
        config = json.dumps({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers"}}).encode()
        kind = f"{OCI}.layer.v1.tar+gzip"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json"} | push_blob(address, config),
            "layers": [{"mediaType": kind} | push_blob(address, layer(text + architecture.encode()))],
        }
        about = push_manifest(address, f"{tag}-{architecture}", manifest)
        listed.append(about | {"platform": {"os": "linux", "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": listed}
    push_manifest(address, tag, index)


@pytest.fixture
def named(registry: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(images.MIRROR, registry)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    push(registry, "1.0", b"one")
    return "registry.example/maker/tool:1.0"


def test_a_tag_becomes_a_digest_and_its_pieces_lie_in_the_store(named: str, registry: str, store: Store) -> None:
    found = images.resolve_image(named, "x86_64", store)
    images.fetch_images(found.parts, store)
    assert (found.top.kind, found.top.version, len(found.parts)) == ("image", "1.0", 3)
    for part in found.parts:
        store.verify(str(part.digest))
        assert store.path(str(part.digest)).stat().st_size == part.bytes
    layers = [one for one in found.parts if "/layer-" in one.name]
    with tarfile.open(store.path(str(layers[0].digest))) as archive:
        assert archive.extractfile("etc/tool").read() == b"oneamd64"  # type: ignore[union-attr]
    other = images.resolve_image(named, "aarch64", store)
    assert other.top.digest != found.top.digest
    push(registry, "1.0", b"two")
    assert images.still_there([one for one in found.parts if one.filename == "manifest.json"]) == []
    images.fetch_images(found.parts, Store(store.root.with_name("another")))
    assert images.resolve_image(named, "x86_64", store).top.digest != found.top.digest


def test_what_the_registry_no_longer_has_is_named(named: str, registry: str, store: Store) -> None:
    found = images.resolve_image(named, "x86_64", store)
    (manifest,) = (one for one in found.parts if one.filename == "manifest.json")
    gone = requests.delete(f"{registry}/v2/maker/tool/manifests/{manifest.digest}", timeout=10)
    assert gone.status_code == 202
    (lost,) = images.still_there([manifest])
    assert "HTTP 404" in lost
    assert "://" not in lost


def test_a_layer_that_is_damaged_at_the_registry_is_refused(
    named: str, registry: str, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    push(registry, "2.0", b"to be damaged")
    found = images.resolve_image(named.replace("1.0", "2.0"), "x86_64", store)
    (part,) = (one for one in found.parts if "/layer-" in one.name)
    places = tmp_path_factory.getbasetemp().glob(f"registry*/data/**/blobs/sha256/*/{part.key}/data")
    (blob,) = {path.resolve() for path in places}
    content = blob.read_bytes()
    blob.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    with pytest.raises(LockError, match=r"layer-\w+ of maker/tool has other bytes"):
        images.fetch_images(found.parts, store)
    assert not store.has(str(part.digest))


def test_a_machine_that_it_is_not_made_for(named: str, store: Store) -> None:
    with pytest.raises(LockError, match="is not made for riscv64"):
        images.resolve_image(named, "riscv64", store)
