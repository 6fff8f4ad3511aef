"""A host whose clock is years off, behind or ahead: what is signed and locked holds, and the clock is told of.

The clock is a stand-in: a library that every program of the host is loaded with, for the kernel has one clock for all.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "lab-small"
YEAR = 31_557_600
#: The three ways in which a program asks what time it is; how far the answer is off stands in a file.
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long off(void) {
    char text[32] = {0};
    int file = open("/etc/clock-off", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t which, struct timespec *shown) {
    int failed = syscall(SYS_clock_gettime, which, shown);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) shown->tv_sec += off();
    return failed;
}
int gettimeofday(struct timeval *restrict shown, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    shown->tv_sec = now.tv_sec;
    shown->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *shown) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (shown) *shown = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture(scope="module")
def rig(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A fresh host that counts three years behind, before anything of ours is there."""
    rig = Rig(tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("state"), (str(installed),))
    (rig.folder / "profiles").mkdir()
    (rig.folder / "profiles/small.yml").write_text("extends: cpu\nllm: {context_tokens: 1024}\n")
    (host,) = Lab(rig.state / "lab").up({HOST: "debian-12"})
    library = rig.folder / "clock.so"
    make = ["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(make, input=CLOCK, text=True, check=True)
    put = "cat > /usr/local/lib/clock.so && echo /usr/local/lib/clock.so > /etc/ld.so.preload"
    subprocess.run([*host.ssh(), put], input=library.read_bytes(), check=True)
    turn(rig, -3)
    rig.read(HOST, "systemctl daemon-reexec && systemctl restart ssh")
    yield rig
    assert rig.run("lab", "down").returncode == 0


def turn(rig: Rig, years: int) -> None:
    """Turn the host's clock."""
    rig.read(HOST, f"echo {years * YEAR} > /etc/clock-off")


def clock_of(rig: Rig) -> str:
    """Give what detection says of the host's clock."""
    (host,) = rig.document("detect", "--lab")["hosts"]
    return next((problem["what"] for problem in host["problems"] if problem["kind"] == "clock"), "")


@pytest.fixture(scope="module")
def behind(rig: Rig) -> dict[str, Any]:
    """The first ``up`` of a host that lives before our archive was signed."""
    assert int(rig.read(HOST, "date +%Y")) < 2026
    assert clock_of(rig) == "its clock is 3.0 years behind this machine's"
    found: dict[str, Any] = rig.document("up", "--lab", "--profile", "small")["hosts"][0]
    return found


def test_a_host_that_lives_before_our_signatures_is_accepted(rig: Rig, behind: dict[str, Any]) -> None:
    assert (behind["result"], behind["error"]) == ("changed", None)
    assert any("3.0 years behind" in note for note in behind["notes"])
    (status,) = rig.document("status", "--lab", "--check")["hosts"]
    assert (status["serving"], status["drift"]) == (True, [])


def test_a_host_that_lives_in_the_future_stays_as_it_is(rig: Rig, behind: dict[str, Any]) -> None:
    turn(rig, 10)
    assert clock_of(rig) == "its clock is 10.0 years ahead of this machine's"
    (again,) = rig.document("up", "--lab", "--profile", "small", "--full")["hosts"]
    assert (again["result"], again["deployment_id"]) == ("unchanged", behind["deployment_id"])
    assert any("10.0 years ahead" in note for note in again["notes"])


def test_a_clock_that_is_right_is_not_told_of(rig: Rig, behind: dict[str, Any]) -> None:
    del behind
    turn(rig, 0)
    assert clock_of(rig) == ""
