"""Keys of built trees, known before they are built. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Raised when the way a tree is built changes, so that old trees are not taken for new ones.
VENV_RECIPE = "1"
FOLDER_RECIPE = "1"
NPM_TREE_RECIPE = "1"
IMAGE_RECIPE = "1"


def venv_key(parts: Iterable[str], python: str, arch: str) -> str:
    """Give the key of a venv: ``sha256:`` and 64 hex digits.

    ``parts`` are the digests of its wheels in any order, ``python`` the full version of the interpreter that builds
    it (``3.11.2``), ``arch`` the machine's name (``x86_64``).
    """
    recipe = {"kind": "venv", "recipe": VENV_RECIPE, "parts": sorted(parts), "python": python, "arch": arch}
    return "sha256:" + digest_of(recipe)


def folder_key(files: Mapping[str, str]) -> str:
    """Give the key of a folder of files, from each one's path in it and its digest."""
    return "sha256:" + digest_of({"kind": "folder", "recipe": FOLDER_RECIPE, "files": dict(files)})


def npm_tree_key(places: Mapping[str, str], commands: Mapping[str, str]) -> str:
    """Give the key of a tree of npm packages: each one's folder in it and its digest, and the links of its commands."""
    recipe = {"kind": "npm_tree", "recipe": NPM_TREE_RECIPE, "places": dict(places), "commands": dict(commands)}
    return "sha256:" + digest_of(recipe)


def image_key(recipe: str, parts: Iterable[str]) -> str:
    """Give the key of an image: what it is made after (a manifest's digest, a recipe), and its parts' digests."""
    return "sha256:" + digest_of(
        {"kind": "image", "recipe": IMAGE_RECIPE, "made_after": recipe, "parts": sorted(parts)}
    )
