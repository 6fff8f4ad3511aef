"""What a rig's owner wants, and the hardware that he expects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from orchestrator.nouns import Noun, digest_of

Use = Literal["solo", "team", "max_speed", "hybrid", "external"]
Agent = Literal["aider", "cline", "opencode", "continue", "claude_code", "qwen_code"]
RuntimeName = Literal["vllm", "sglang", "llama_cpp", "ollama", "exllama", "tensorrt_llm", "external", "xllamacpp"]


#: The name of an account as a host's ``/etc/passwd`` may hold it: a line without colons, of at most 32 characters
#: (useradd(8)), any script and any quotes. It is data everywhere; what needs a word takes its slug.
Account = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^[^:/\x00-\x1f\x7f]+$")]


class ExpectedGpu(Noun):
    """Cards of one kind: a name of the GPU catalog and how many. ``vram_mib`` overrides the catalog's.

    ``by`` says what detection is held against: the card itself, or its vendor and memory alone.
    """

    name: str
    by: Literal["name", "memory"] = "name"
    count: int = Field(default=1, ge=1)
    vram_mib: int | None = Field(default=None, gt=0)


class Hardware(Noun):
    """The machine that the profile is made for; detection is held against it. Empty ``gpus``: none needed."""

    gpus: tuple[ExpectedGpu, ...] = ()
    ram_mib: int | None = Field(default=None, gt=0)


class LlmWish(Noun):
    """What the owner fixes of the choice; what he leaves out is chosen."""

    name: str | None = None
    quant: str | None = None
    context_tokens: int | None = Field(default=None, gt=0)
    #: Most tokens of one answer.
    output_tokens: int | None = Field(default=None, gt=0)
    kv_dtype: str | None = None
    slots: int | None = Field(default=None, ge=1)


class RuntimeWish(Noun):
    """What the owner fixes of the runtime. ``url`` is for ``external`` alone."""

    name: RuntimeName | None = None
    port: int = Field(default=18080, ge=1, le=65535)
    url: str | None = None


class DriverWish(Noun):
    """What the owner wants of the cards' driver.

    ``packages``: auto installs the distribution's where the one that is there does not do; distribution takes the
    distribution's whatever is there; none leaves the driver to its owner. ``module_key`` is for Secure Boot.
    """

    packages: Literal["auto", "distribution", "none"] = "auto"
    #: A branch of the distribution's archive, as ``580``; left out, the lowest that does.
    branch: str | None = Field(default=None, pattern=r"^\d{3}$")
    #: Keeps the cards awake between programs.
    persistence: bool = True
    #: Most watts that each card may draw.
    power_limit_watts: int | None = Field(default=None, gt=0)
    #: ``enrolled`` once the host's firmware trusts the key that its own modules are signed with.
    module_key: Literal["enrolled"] | None = None


class Gateway(Noun):
    """The one door. Plain HTTP never leaves the host: without TLS the address is a loopback one."""

    port: int = Field(default=8080, ge=1, le=65535)
    address: Literal["127.0.0.1"] = "127.0.0.1"


#: The name of a Debian package (Debian policy 5.6.1).
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]


class Sandbox(Noun):
    """Walled places for agents on this host: their kind, what runs them, what is in them beside the agents.

    ``packages``: of the host's own distribution, locked, put into the image when it is built. ``commands``: the
    project's own test and build commands, which an agent may run besides reading and editing, as whole command lines.
    """

    kind: Literal["container"] = "container"
    engine: Literal["docker"] = "docker"
    packages: tuple[Package, ...] = ()
    commands: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[ -~]+$")], ...] = ()


class Limits(Noun):
    """What the rig's cards may come to before ``verify`` says that they are not well.

    Without degrees of its owner's, a card may come to those from which it goes below its base clock itself.
    """

    gpu_temperature_celsius: int | None = Field(default=None, ge=30, le=120)
    #: Errors of a card's memory, since its driver was loaded, that ECC saw and could not put right.
    gpu_uncorrected_errors: int = Field(default=0, ge=0)


class Profile(Noun):
    """A profile, with what it extends already merged in."""

    name: str
    description: str = ""
    extends: str | None = None
    hardware: Hardware = Hardware()
    use: Use = "solo"
    users: int = Field(default=1, ge=1)
    agents: tuple[Agent, ...] = ()
    #: Accounts of the host whose owners start agents themselves: each gets a token of his own at the gateway.
    people: tuple[Account, ...] = ()
    #: Set on profiles that show the plumbing with an llm below the floor for agents.
    demonstration: bool = False
    #: Asks for a small llm that completes beside the main one, where it fits.
    autocomplete: bool = False
    llm: LlmWish = LlmWish()
    runtime: RuntimeWish = RuntimeWish()
    gateway: Gateway = Gateway()
    #: Walled places for agents; None: this host has none.
    sandbox: Sandbox | None = None
    limits: Limits = Limits()
    driver: DriverWish = DriverWish()

    def fingerprint(self) -> str:
        """Give the digest of what is wished; a driver that nothing is said of does not count, as in older locks."""
        said = self.document()
        if self.driver == DriverWish():
            del said["driver"]
        return digest_of(said)
