"""The gateway as a client meets it: both wire forms, every failure a sentence. The room's one door to requests."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

Form = Literal["openai", "anthropic"]

#: Seconds: a CPU that is busy reads a prompt slowly, but a gateway that is there answers a connection at once.
CONNECT_SECONDS = 10
READ_SECONDS = 120
#: Seconds that one streamed answer may take, however steadily it comes.
STREAM_SECONDS = 300

_CHAT_PATHS: dict[Form, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
#: The version that every client of the Anthropic form sends.
_ANTHROPIC_VERSION = "2023-06-01"
_SHOWN = 160


class Unanswered(Exception):  # noqa: N818 - an outcome that a check writes down, never one that a caller sees
    """The gateway gave no answer, or none that can be read; the text says which, for a person."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that came whole. ``seconds`` from the request to its last byte."""

    status: int
    text: str
    seconds: float

    def document(self) -> dict[str, Any]:
        """Give the body of a 200 as a JSON object; raises ``Unanswered`` for anything else."""
        if self.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise Unanswered(f"HTTP {self.status}: {shown(self.text)}")
        return json_object(self.text)


class Gateway:
    """One gateway and one token. ``base_url`` has no path; ``ca_file`` is None without TLS."""

    def __init__(self, base_url: str, token: str, ca_file: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._ca_file = ca_file

    def get(self, path: str) -> Answer:
        """Ask for one path with the token; raises ``Unanswered``."""
        with self._request("GET", path, credentials("openai", self._token)) as (response, began):
            return Answer(response.status_code, response.text, time.monotonic() - began)

    def chat(self, form: Form, body: Mapping[str, Any], seconds: int = READ_SECONDS) -> Answer:
        """Send one chat in the given form with the token and wait so many seconds for it; raises ``Unanswered``."""
        return self.chat_as(form, body, credentials(form, self._token), seconds)

    def chat_as(
        self, form: Form, body: Mapping[str, Any], headers: Mapping[str, str], seconds: int = READ_SECONDS
    ) -> Answer:
        """Send one chat with the given headers in the place of the token's; raises ``Unanswered``."""
        with self._request("POST", _CHAT_PATHS[form], headers, body, seconds) as (response, began):
            return Answer(response.status_code, response.text, time.monotonic() - began)

    @contextmanager
    def stream(self, body: Mapping[str, Any], form: Form = "openai") -> Iterator[Iterator[tuple[float, bytes]]]:
        """Send one streamed chat; gives what arrives, each piece with its seconds since the request.

        Raises ``Unanswered``: also where the answer is no event stream.
        """
        headers = credentials(form, self._token)
        with self._request("POST", _CHAT_PATHS[form], headers, {**body, "stream": True}) as (response, began):
            if response.status_code != 200:  # noqa: PLR2004 - HTTP's own number
                raise Unanswered(f"HTTP {response.status_code}: {shown(response.text)}")
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise Unanswered(f"the answer was not streamed: {kind or 'no content type'}")
            yield _timed(response.iter_content(chunk_size=None), began)

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        seconds: int = READ_SECONDS,
    ) -> Iterator[tuple[requests.Response, float]]:
        import requests  # noqa: PLC0415 - slow to import

        began = time.monotonic()
        with requests.Session() as session:
            # Neither a proxy nor a .netrc of this machine may stand between the check and the gateway.
            session.trust_env = False
            session.verify = self._ca_file or True
            try:
                with session.request(
                    method,
                    self.base_url + path,
                    headers=dict(headers),
                    json=body,
                    stream=True,
                    allow_redirects=False,
                    timeout=(CONNECT_SECONDS, seconds),
                ) as response:
                    yield response, began
            except requests.exceptions.RequestException as error:
                raise Unanswered(self._readable(error, seconds)) from error

    def _readable(self, error: requests.exceptions.RequestException, seconds: int) -> str:
        from requests import exceptions  # noqa: PLC0415 - slow to import

        sentences: tuple[tuple[type[Exception], str], ...] = (
            (exceptions.ConnectTimeout, f"no connection to {self.base_url} within {CONNECT_SECONDS} s"),
            (exceptions.ReadTimeout, f"no answer from {self.base_url} within {seconds} s"),
            (exceptions.SSLError, f"the certificate of {self.base_url} is not one of ours"),
            (exceptions.ChunkedEncodingError, f"{self.base_url} broke off in the middle of its answer"),
            (exceptions.ConnectionError, f"no connection to {self.base_url}, or it broke off"),
        )
        named = (sentence for kind, sentence in sentences if isinstance(error, kind))
        return next(named, f"{self.base_url} could not be asked: {type(error).__name__}")


def _timed(pieces: Iterator[bytes], began: float) -> Iterator[tuple[float, bytes]]:
    for piece in pieces:
        seconds = time.monotonic() - began
        if seconds > STREAM_SECONDS:
            raise Unanswered(f"the stream had not ended after {STREAM_SECONDS} s")
        yield seconds, piece


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object; raises ``Unanswered`` for anything else."""
    try:
        document = json.loads(text)
    except ValueError:
        raise Unanswered(f"the answer is not JSON: {shown(text)}") from None
    if not isinstance(document, dict):
        raise Unanswered(f"the answer is not a JSON object: {shown(text)}")
    return document


def shown(text: str) -> str:
    """Give the beginning of a text on one line, for a person."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def credentials(form: Form, token: str) -> dict[str, str]:
    """Give the headers that carry a token in the given form."""
    if form == "openai":
        return {"Authorization": f"Bearer {token}"}
    return {"x-api-key": token, "anthropic-version": _ANTHROPIC_VERSION}
