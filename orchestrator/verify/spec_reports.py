"""Turns what pytest tells of the specs into checks: a spec that could not run has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import pytest

from orchestrator.verify.gateway import shown
from orchestrator.verify.subject import Figure, check

if TYPE_CHECKING:
    from collections.abc import Generator

    from orchestrator.evidence import Check

_BROKEN = "host specs"


class SpecReports:
    """A pytest plugin that writes one check a line: the spec's docstring is its name, its assertion the detail."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._waiting: dict[str, str] = {}
        self._written = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which specs there are."""
        self._waiting = {item.nodeid: _name(item) for item in session.items}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write down a file of specs that cannot be read."""
        if report.failed:
            self._write(
                check("host", _BROKEN, [f"{report.nodeid} cannot be read: {shown(report.longreprtext[-160:])}"])
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write down a spec that was run, or that could not be."""
        report = yield
        ended = report.when == "call" or not report.passed
        if ended and item.nodeid in self._waiting:
            name = self._waiting.pop(item.nodeid)
            figure = _figure(dict(item.user_properties))
            self._write(check("host", name, [] if report.passed else [_reason(call)], figure=figure))
            if call.excinfo and _unreachable(call.excinfo.value):
                item.session.shouldstop = "the host cannot be reached"
        return report

    def finish(self) -> None:
        """Write down, as failed, what never came to run."""
        for name in self._waiting.values():
            self._write(check("host", name, ["it could not be run"]))
        if not self._written:
            self._write(check("host", _BROKEN, ["there was none to run"]))

    def _write(self, found: Check) -> None:
        self._written += 1
        print(found.model_dump_json(), file=self._answers, flush=True)


def _name(item: pytest.Item) -> str:
    text = getattr(getattr(item, "obj", None), "__doc__", None) or item.name
    return str(text).strip().splitlines()[0].rstrip(".").lower()


def _figure(properties: dict[str, object]) -> Figure | None:
    count, unit = properties.get("figure"), properties.get("unit")
    return Figure(count, str(unit)) if isinstance(count, int) else None


def _unreachable(error: BaseException) -> bool:
    """Tell whether ssh itself failed: testinfra then raises what the command gave, with exit code 255."""
    return isinstance(error, RuntimeError) and bool(error.args) and getattr(error.args[0], "rc", None) == 255  # noqa: PLR2004


def _reason(call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return "it could not be run"
    error = call.excinfo.value
    if _unreachable(error):
        said = error.args[0].stderr.strip().splitlines()
        return f"the host cannot be reached: {shown(said[-1]) if said else 'ssh gave no reason'}"
    if isinstance(error, AssertionError):
        return str(error)
    return f"it could not be run: {shown(f'{type(error).__name__}: {error}')}"
