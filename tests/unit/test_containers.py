"""What containers for agents need of a host: packages, image, settings; pure, and on files of the test's own."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.apply.values import trees_of
from orchestrator.detect.readings import commands, parse_reading
from orchestrator.detect.script import Output
from orchestrator.files import data
from orchestrator.lock import Request, Store, wanted
from orchestrator.lock.bundle import blobs_of
from orchestrator.lock.bundle_fit import misfit
from orchestrator.lock.image_build import source_of, with_tarball
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.manifest import ImageItem, Manifest, Reading, compare
from orchestrator.profile import Sandbox
from orchestrator.render import render
from orchestrator.rendered import SANDBOX_IMAGE
from orchestrator.snapshot import OperatingSystem, Package
from tests.unit.lock_stand_ins import catalog, deployment, snapshot
from tests.unit.rendering import CATALOG, CPU

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

BOXED = CPU.model_copy(update={"sandbox": Sandbox(packages=("nodejs",))})
SMALL = deployment("small", "Q4", "xllamacpp")
ROWS = catalog(b"GGUF")
BASE = {"ca-certificates", "git", "libstdc++6", "procps", "python3"}
TRIXIE = OperatingSystem(id="debian", version_id="13", codename="trixie", pretty="Debian 13")
KEY = "1" * 64
IMAGE = ImageItem(name=f"agentrig-sandbox:{KEY[:16]}", key=KEY)


def test_a_host_without_sandboxes_gets_no_engine() -> None:
    rendered = render(CPU, CATALOG)
    assert "docker.io" not in rendered.packages
    assert SANDBOX_IMAGE not in rendered.artefacts
    assert not [name for name in rendered.variables if name.startswith("container_engine")]
    assert wanted(SMALL, (), ROWS, snapshot()).image == ()


def test_a_host_with_sandboxes_gets_engine_settings_and_image() -> None:
    rendered = render(BOXED, CATALOG)
    assert "docker.io" in rendered.packages
    assert SANDBOX_IMAGE in rendered.artefacts
    assert rendered.variables["container_engine_name"] == "docker"
    settings = rendered.variables["container_engine_settings"] | rendered.variables["container_engine_own_settings"]
    assert "hosts" not in settings
    assert settings["live-restore"] is True


def test_the_image_has_the_base_and_what_the_profile_names() -> None:
    boxed = SMALL.model_copy(update={"sandbox": Sandbox(packages=("nodejs",))})
    assert set(wanted(boxed, (), ROWS, snapshot()).image) == BASE | {"nodejs"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ("docker.io", "nginx")),
        (
            {"os": OperatingSystem(id="debian", version_id="13", codename="trixie")},
            ("docker-cli", "docker.io", "nginx"),
        ),
        ({"packages": (Package(name="docker-ce", version="5:29", architecture="amd64"),)}, ("nginx",)),
    ],
    ids=["whole", "split", "its maker's"],
)
def test_the_engine_is_asked_for_as_a_host_has_it(changes: dict[str, Any], names: tuple[str, ...]) -> None:
    found = wanted(SMALL, ("docker.io", "nginx"), ROWS, snapshot(**changes))
    assert set(names) <= set(found.packages)
    assert {"docker.io", "docker-cli"} & set(found.packages) == {"docker.io", "docker-cli"} & set(names)


def image_of(store: Store, folder: Path) -> Resolved:
    """An image of one package, whose tarball was built here earlier: bytes that stand in for both."""
    deb, tarball = folder / "one.deb", folder / "tarball"
    deb.write_bytes(b"stand-in for a package")
    tarball.write_bytes(b"stand-in for a file system")
    part = Artefact(
        kind="deb", name="one", version="1", digest=store.add_file(deb), bytes=22, source="apt:bookworm one=1"
    )
    source = source_of(snapshot(), ["one"])
    top = Artefact(
        kind="image", name=SANDBOX_IMAGE, version="bookworm", digest=f"sha256:{KEY}", source=source, parts=(part.id,)
    )
    store.note_built(str(top.digest), store.add_file(tarball))
    return with_tarball(Resolved(top, (part,)), store)


def lock_of(image: Resolved) -> Lock:
    host = HostLock(
        profile_digest="p", hardware_digest="h", deployment=SMALL, links={SANDBOX_IMAGE: image.top.id},
        packages=wanted(SMALL, (), ROWS, snapshot()).packages,
    )  # fmt: skip
    return Lock(agentrig="0", hosts={"one": host}, artefacts=tuple(sorted(image.all, key=lambda one: one.id)))


def test_what_was_built_is_in_the_lock_and_carried_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    image = image_of(store, tmp_path)
    (tarball,) = (part for part in image.parts if part.kind == "file")
    assert (image.top.key, image.top.bytes) == (KEY, 26), "the key is that of before it was built"
    assert with_tarball(image, store) == image
    (tree,) = trees_of(lock_of(image), {SANDBOX_IMAGE: KEY})
    assert (tree["key"], tree["kind"]) == (KEY, "file")
    assert [(part["digest"], part["file"]) for part in tree["parts"]] == [(tarball.key, "image.tar")]
    assert {blob.digest for blob in blobs_of(lock_of(image))} == {part.key for part in image.parts}


def test_a_bundle_without_the_image_that_is_asked_for_does_not_fit(tmp_path: Path) -> None:
    image = image_of(Store(tmp_path / "store"), tmp_path)
    boxed = SMALL.model_copy(update={"sandbox": Sandbox()})
    request = Request(snapshot=snapshot(), profile_digest="p", deployment=boxed)
    said = misfit(lock_of(image), "one", request, ROWS)
    assert said is not None
    assert "another image for the sandboxes than was locked" in said


def manifest() -> Manifest:
    return Manifest(host="one", release="r", deployment_id="r", lock_digest="l", images=(IMAGE,))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{IMAGE.name} {KEY}\n", None),
        ("", "absent"),
        (f"{IMAGE.name} {'2' * 64}\n", "key 222222222222"),
        (f"{IMAGE.name} \n", "key not ours"),
    ],
    ids=["as it was put", "removed", "another", "a stranger's"],
)
def test_an_image_that_is_no_longer_ours_is_named(text: str, found: str | None) -> None:
    assert IMAGE.name in commands(manifest())["images"]
    sockets = Output("table tcp\n")
    reading = parse_reading(manifest(), {"images": Output(text), "sockets": sockets, "holders": Output("")})
    drift = compare(manifest(), Reading(images=reading.images))
    assert [(one.kind, one.name, one.found) for one in drift] == ([("image", IMAGE.name, found)] if found else [])


def loaded(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the engine as it runs on a host."""
    for name in ("agentrig", "agentrig_docker"):
        shared = loaded(f"ansible.module_utils.{name}", data("roles") / f"host_base/module_utils/{name}.py")
        monkeypatch.setitem(sys.modules, f"ansible.module_utils.{name}", shared)
        monkeypatch.setattr(importlib.import_module("ansible.module_utils"), name, shared, raising=False)
    return loaded("agentrig_engine", data("roles") / "container_engine/library/agentrig_engine.py")


def test_keys_that_are_no_longer_ours_are_the_owner_s(module: Any) -> None:
    record = {"settings": {"live-restore": True, "log-driver": "json-file"}}
    document = {"live-restore": True, "log-driver": "journald", "dns": ["192.0.2.53"]}
    assert module.without_ours(document, record) == {"log-driver": "journald", "dns": ["192.0.2.53"]}


def test_options_of_a_log_driver_go_with_the_driver(module: Any) -> None:
    settings = {"live-restore": True, "log-driver": "json-file", "log-opts": {"max-size": "10m"}}
    assert module.added_to({}, [], settings) == settings
    assert module.added_to({"log-driver": "journald"}, [], settings) == {"live-restore": True}
    assert module.added_to({"log-opts": {}}, [], settings) == {"live-restore": True}
    assert module.added_to({}, ["--log-driver=local"], settings) == {"live-restore": True}
    assert module.added_to({}, ["--live-restore", "--log-opt", "max-size=1m"], settings) == {}


def test_containerd_s_port_is_closed_before_the_first_table(module: Any) -> None:
    text = 'version = 2\n\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n'
    closed = module.without_cri(text)
    assert closed.index("disabled_plugins") < closed.index("[plugins]")
    assert closed.replace(module.NO_CRI, "") == text
    assert module.without_cri("") == "version = 2\n" + module.NO_CRI


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_configuration_that_nobody_can_read_is_refused(module: Any, text: str) -> None:
    with pytest.raises(Exception, match="mend it, then run it again"):
        module.document_of(text)
    assert module.document_of(None) == module.document_of("\n") == {}


SOCKET = {"Listen": "/run/docker.sock (Stream)", "SocketMode": "0660"}


@pytest.mark.parametrize(
    ("document", "words", "socket", "said"),
    [
        ({}, ["-H", "fd://"], {}, None),
        ({"hosts": ["unix:///run/docker.sock"]}, [], {}, None),
        ({"hosts": ["tcp://0.0.0.0:2375"]}, [], {}, "it listens on tcp://0.0.0.0:2375 without tlsverify"),
        ({"hosts": ["tcp://0.0.0.0:2376"], "tlsverify": True}, [], {}, None),
        ({"hosts": ["tcp://0.0.0.0:2376"], "tls": True}, [], {}, "without tlsverify"),
        ({}, ["dockerd", "-H", "fd://", "-H", "tcp://127.0.0.1:2375"], {}, "tcp://127.0.0.1:2375"),
        ({}, ["--host=tcp://[::]:2375"], {}, "tcp://[::]:2375"),
        ({}, ["-Htcp://10.0.0.1:2375"], {}, "tcp://10.0.0.1:2375"),
        ({}, ["--host=tcp://[::]:2376", "--tlsverify"], {}, None),
        ({}, [], {"SocketMode": "0666"}, "opens /run/docker.sock to all, with the mode 0666"),
        ({}, [], {"Listen": "/run/docker.sock (Stream) [::]:2375 (Stream)"}, "docker.socket listens on [::]:2375"),
    ],
)  # fmt: skip
def test_an_engine_that_is_open_is_told_so(
    module: Any, document: dict[str, Any], words: list[str], socket: dict[str, str], said: str | None
) -> None:
    found = module.engine.opened(document, words, SOCKET | socket)
    assert found is None if said is None else said in found
