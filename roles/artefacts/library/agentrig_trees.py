#!/usr/bin/python3
"""Build the artefacts of a host from staged parts: each once, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tarfile

from ansible.module_utils.agentrig import (
    MARKER,
    STAGING,
    STORE,
    Refused,
    alone,
    discard,
    is_there,
    mark,
    marked,
    run,
    sha256_of,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_trees
short_description: Artefacts of a host, each in the folder of its key
description:
  - A file artefact is its one part under its own name; a C(venv) is made with the distribution's interpreter and
    filled from its wheels alone, by their hashes, with no bytecode. An C(npm_tree) is its tarballs, each unpacked in
    its own place; no npm is asked and no script of a package is run. An C(archive) is a release's tarball without
    its first folder; its links stay where they lead to something of the same tree.
  - A tree counts only under its marker, C(.agentrig-complete), whose first line is the tree's digest; a tree without
    it, or whose content is no longer what it was, is thrown away and built again.
options:
  trees:
    type: list
    elements: dict
    required: true
    description:
      - C(key), C(name), C(kind) file, venv, npm_tree or archive, and C(parts).
      - Each part has C(digest), C(file), C(name), C(version).
      - For an npm_tree also C(places), folder -> digest, and C(commands), link -> program.
  incomplete:
    type: list
    elements: str
    default: []
    description: Keys of trees that were read and found to be no longer what they were.
author: [agentrig]
"""
EXAMPLES = r"""
- name: Build the artefacts
  agentrig_trees: {trees: []}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
trees: {description: Key -> tree digest of every tree that is complete., returned: always, type: dict}
"""
PYTHON = "/usr/bin/python3"
WHEELS = ("usr/share/python-wheels", "usr/lib/python3*/ensurepip/_bundled")


def pip_wheel():
    """Give the distribution's own pip, as the wheel that its venv module installs."""
    for pattern in WHEELS:
        for path in sorted(pathlib.Path("/").glob(f"{pattern}/pip-*.whl")):
            return path
    raise Refused("the distribution's pip wheel is missing; the package that brings python3's venv module has it")


def check_parts(parts):
    """Refuse a staged part that is not what the lock names; it is thrown away."""
    for part in parts:
        staged = STAGING / part["digest"]
        if not staged.is_file():
            raise Refused(f"{part['file']} has not arrived")
        if sha256_of(staged) != part["digest"]:
            staged.unlink()
            raise Refused(f"{part['file']}: what arrived is not sha256:{part['digest']}")


def build_file(tree, folder):
    """Place a file artefact."""
    for part in tree["parts"]:
        path = folder / part["file"]
        (STAGING / part["digest"]).replace(path)
        os.chown(path, 0, 0)
        path.chmod(0o644)


def build_venv(tree, folder):
    """Make a venv and fill it from its wheels."""
    wheels = STAGING / f"wheels-{tree['key'][:12]}"
    discard(wheels)
    wheels.mkdir(mode=0o755)
    for part in tree["parts"]:
        os.link(STAGING / part["digest"], wheels / part["file"])
    lines = [f"{part['name']}=={part['version']} --hash=sha256:{part['digest']}" for part in tree["parts"]]
    requirements = wheels / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_ROOT_USER_ACTION": "ignore"}
    run([PYTHON, "-B", "-m", "venv", "--without-pip", str(folder)], env=quiet)
    offline = ["--no-index", "--find-links", str(wheels), "--require-hashes", "--no-deps"]
    clean = ["--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--no-input", "-q"]
    pip = [str(folder / "bin/python"), "-B", f"{pip_wheel()}/pip"]
    run([*pip, "install", *offline, *clean, "-r", str(requirements)], env=quiet)
    discard(wheels)


def within(folder, path):
    """Give a path below a folder; refuse one that leads out of it."""
    parts = pathlib.PurePosixPath(path).parts
    if not parts or pathlib.PurePosixPath(path).is_absolute() or ".." in parts:
        raise Refused(f"{path!r} does not lie in the tree")
    return folder.joinpath(*parts)


def unpack(tarball, name, folder):
    """Unpack a package as npm does: its first folder taken off, files and folders alone, root's, modes made plain."""
    folder.mkdir(mode=0o755, parents=True)
    with tarfile.open(tarball, "r:*") as archive:
        for member in archive:
            path = pathlib.PurePosixPath(member.name)
            if member.isdir() or len(path.parts) < 2:  # noqa: PLR2004 - the first folder is not the package's own
                continue
            if not member.isfile():
                raise Refused(f"{name}: {member.name!r} is neither a file nor a folder")
            target = within(folder, str(pathlib.PurePosixPath(*path.parts[1:])))
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.closing(archive.extractfile(member)) as content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
            target.chmod(0o755 if member.mode & 0o111 else 0o644)


def build_npm_tree(tree, folder):
    """Unpack each package in its own place, and link the commands."""
    names = {part["digest"]: part["file"] for part in tree["parts"]}
    for place, digest in sorted(tree["places"].items()):
        unpack(STAGING / digest, names[digest], within(folder, place))
    for command, program in sorted(tree["commands"].items()):
        link = within(folder, command)
        link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target = pathlib.Path(os.path.normpath(link.parent / program))
        if not target.is_relative_to(folder) or not target.is_file():
            raise Refused(f"{tree['name']} has no program {program}")
        target.chmod(0o755)
        link.symlink_to(program)


def build_archive(tree, folder):
    """Unpack a release's tarball; its links come last, so that nothing is written through one."""
    (part,) = tree["parts"]
    tarball, links = STAGING / part["digest"], {}
    with tarfile.open(tarball, "r:*") as archive:
        for member in archive:
            path = pathlib.PurePosixPath(member.name)
            if member.isdir() or len(path.parts) < 2:  # noqa: PLR2004 - the first folder is not the release's own
                continue
            target = within(folder, str(pathlib.PurePosixPath(*path.parts[1:])))
            if member.issym():
                links[target] = member.linkname
                continue
            if not member.isfile():
                raise Refused(f"{part['file']}: {member.name!r} is neither a file, a folder nor a link")
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.closing(archive.extractfile(member)) as content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
            target.chmod(0o755 if member.mode & 0o111 else 0o644)
    link_within(folder, links, part["file"])


def link_within(folder, links, name):
    """Make links, each of which must lead to something in the folder; no link lies behind another."""
    for link, leads in sorted(links.items()):
        aim = pathlib.Path(os.path.normpath(link.parent / leads))
        if pathlib.PurePosixPath(leads).is_absolute() or not aim.is_relative_to(folder) or is_there(link):
            raise Refused(f"{name}: the link {link.relative_to(folder)} leads out of the tree, or is there twice")
        if any(parent in links for parent in (*link.parents, *aim.parents)):
            raise Refused(f"{name}: the link {link.relative_to(folder)} lies behind another")
        link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        link.symlink_to(leads)
    for link in links:
        if not link.exists() or not link.resolve().is_relative_to(folder.resolve()):
            raise Refused(f"{name}: the link {link.relative_to(folder)} leads nowhere")


def build(tree):
    """Build one tree from nothing, and mark it; one that cannot be finished is taken away."""
    folder = STORE / tree["key"]
    check_parts(tree["parts"])
    discard(folder)
    folder.mkdir(mode=0o755)
    try:
        builders = {"file": build_file, "venv": build_venv, "npm_tree": build_npm_tree, "archive": build_archive}
        builders[tree["kind"]](tree, folder)
        return mark(folder)
    except (Refused, OSError):
        clear_away(tree)
        raise
    except Exception as error:  # a tarball may break in more ways than its readers name (tarfile, zlib, lzma)
        clear_away(tree)
        raise Refused(f"{tree['name']} cannot be built: {type(error).__name__}: {error}") from error


def clear_away(tree):
    """Leave nothing of a tree that cannot be finished."""
    for path in (STORE / tree["key"], STAGING / f"wheels-{tree['key'][:12]}"):
        discard(path)


def main():
    module = AnsibleModule(
        argument_spec={
            "trees": {"type": "list", "elements": "dict", "required": True},
            "incomplete": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    changes, digests = [], {}
    try:
        with alone(module):
            for tree in module.params["trees"]:
                digest = marked(STORE / tree["key"])
                if digest is None or tree["key"] in module.params["incomplete"]:
                    changes.append(f"build {tree['name']}")
                    digest = None if module.check_mode else build(tree)
                if digest:
                    digests[tree["key"]] = digest
            if not module.check_mode:
                discard(STAGING)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes, trees=digests, marker=MARKER)


if __name__ == "__main__":
    main()
