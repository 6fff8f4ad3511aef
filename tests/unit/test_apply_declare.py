"""The declared manifest, and what the roles are given: pure, from values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.apply.declare import Told, artefact_keys, declare, fingerprint
from orchestrator.apply.values import away_values, unit_values
from orchestrator.errors import ApplyError
from orchestrator.lockfile import Lock
from orchestrator.manifest import Manifest
from orchestrator.rendered import Rendered, RenderedFile, RenderedUnit
from tests.apply_parts import GATEWAY, RUNTIME, SECRETS, Parts, rendered


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    parts = Parts(tmp_path)
    venv = parts.venv(parts.wheel())
    debs = (parts.deb("nginx", {}), parts.deb("agentrig-test-greeting", {}))
    return parts.lock({"runtime": venv, "llm": parts.weights()}, debs)


def declared(lock: Lock, told: Told, former: Manifest | None = None) -> Manifest:
    return declare(rendered(), lock, "rig", "0123456789abcdef", told, secrets=SECRETS, former=former)


def test_a_file_with_a_secret_is_declared_by_its_placeholder(lock: Lock) -> None:
    manifest = declared(lock, Told())
    item = next(item for item in manifest.files if item.path.endswith("/gateway/tokens"))
    assert item.secrets == ("gateway_token",)
    assert item.sha256 == hashlib.sha256(b"Bearer {{secret:gateway_token}}\n").hexdigest()
    assert not [secret for secret in SECRETS.values() if secret in manifest.to_json()]


def test_a_package_that_was_there_before_is_not_ours(lock: Lock) -> None:
    manifest = declared(lock, Told(before={"packages": {"nginx": "1.18", "agentrig-test-greeting": None}}))
    assert [item.name for item in manifest.packages] == ["agentrig-test-greeting"]
    assert manifest.before.packages == {"nginx": "1.18"}


def test_a_tree_that_was_not_built_anew_keeps_the_digest_it_had(lock: Lock) -> None:
    keys = artefact_keys(rendered(), lock, "rig")
    former = declared(lock, Told(trees=dict.fromkeys(keys.values(), "a" * 64)))
    assert {tree.digest for tree in declared(lock, Told(), former).trees} == {"a" * 64}
    assert {tree.digest for tree in declared(lock, Told()).trees} == {""}


def test_the_same_values_give_the_same_manifest(lock: Lock) -> None:
    assert declared(lock, Told()).fingerprint() == declared(lock, Told()).fingerprint()


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("runtime/environment", {RUNTIME}),
        ("gateway/tokens", {GATEWAY}),
        (f"units/{GATEWAY}", {GATEWAY}),
        ("runtime/chat.jinja", set()),
    ],
)
def test_a_unit_starts_anew_only_for_what_it_names(lock: Lock, path: str, moved: set[str]) -> None:
    keys = artefact_keys(rendered(), lock, "rig")
    files = rendered().files
    other = rendered().model_copy(
        update={
            "files": tuple(
                each.model_copy(update={"content": each.content + "# moved\n"}) if each.path == path else each
                for each in files
            )
        }
    )
    units = rendered().units
    before = {unit.name: fingerprint(unit, rendered(), keys, SECRETS) for unit in units}
    after = {unit.name: fingerprint(unit, other, keys, SECRETS) for unit in units}
    assert {name for name in before if before[name] != after[name]} == moved


def test_a_unit_names_files_through_files_that_it_names() -> None:
    files = (
        RenderedFile(
            path="units/agentrig-gateway.service", content="ExecStart=x -c /opt/agentrig/current/gateway/main"
        ),
        RenderedFile(path="gateway/main", content="include lists/paths;\ninclude /opt/agentrig/current/shared/;\n"),
        RenderedFile(path="gateway/lists/paths", content="one"),
        RenderedFile(path="shared/deep/types", content="two"),
        RenderedFile(path="gateway/other", content="three"),
    )
    unit = RenderedUnit(name="agentrig-gateway.service")

    def of(content_of_other: str, content_of_types: str) -> str:
        changed = {"gateway/other": content_of_other, "shared/deep/types": content_of_types}
        all_files = tuple(f.model_copy(update={"content": changed.get(f.path, f.content)}) for f in files)
        return fingerprint(unit, Rendered(deployment_digest="0", files=all_files, units=(unit,)), {}, {})

    assert of("three", "two") == of("not named by anyone", "two")
    assert of("three", "two") != of("three", "moved")


def test_a_changed_secret_starts_the_units_that_use_it(lock: Lock) -> None:
    keys = artefact_keys(rendered(), lock, "rig")
    other = SECRETS | {"gateway_token": "another"}
    units = {unit.name: unit for unit in rendered().units}
    assert fingerprint(units[GATEWAY], rendered(), keys, SECRETS) != fingerprint(
        units[GATEWAY], rendered(), keys, other
    )
    assert fingerprint(units[RUNTIME], rendered(), keys, SECRETS) == fingerprint(
        units[RUNTIME], rendered(), keys, other
    )


def test_the_rendering_has_the_last_word_on_a_roles_variable(lock: Lock) -> None:
    spoken = rendered().model_copy(update={"variables": {"runtime_seconds": 7}})
    keys = artefact_keys(spoken, lock, "rig")
    assert unit_values(spoken, lock, "rig", keys, SECRETS)["runtime_seconds"] == 7


def test_a_unit_that_no_role_runs_is_refused(lock: Lock) -> None:
    strange = rendered().model_copy(update={"units": (RenderedUnit(name="strange.service"),)})
    with pytest.raises(ApplyError, match=r"strange\.service"):
        unit_values(strange, lock, "rig", artefact_keys(strange, lock, "rig"), SECRETS)


def test_what_is_taken_away_is_what_the_manifests_name(lock: Lock) -> None:
    values = away_values([declared(lock, Told(masked=("nginx.service",)))], purge=True)
    assert [user["name"] for user in values["host_base_users"]] == [
        f"agentrig-{name}" for name in ("agent", "gateway", "runtime")
    ]
    assert [deb["name"] for deb in values["artefacts_debs"]] == ["agentrig-test-greeting", "nginx"]
    assert [link["path"] for link in values["artefacts_links"]] == ["/etc/agentrig-test.jinja"]
