"""Asks an OpenAI-compatible server for text and reads it as it comes, blocking.

An interrupt in the middle of an answer leaves the connection closed, which ends the request on the
server. Knows no terminal. Used by `unisono chat` and `unisono run`.
"""

import http.client
import json
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

CONNECT_SECONDS = 10.0
Message = Mapping[str, str]


class ChatError(Exception):
    """A server cannot be reached, refuses, or breaks off. The message is for the person."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer: text, or of a thought before it."""

    text: str
    is_thought: bool = False


# What is not read to its end should be closed: that ends the request.
Answer = Generator[Piece, None, None]


@dataclass(slots=True)
class Figures:
    """What one answer took; times are seconds. num_tokens: as the server counts, else pieces."""

    num_tokens: int = 0
    first_s: float = 0.0
    all_s: float = 0.0
    finish_reason: str = ""

    def __str__(self) -> str:
        parts = [f"{self.num_tokens} tokens"]
        if self.all_s > self.first_s and self.num_tokens > 1:
            parts.append(f"{(self.num_tokens - 1) / (self.all_s - self.first_s):.1f} tokens/s")
        parts.append(f"first after {self.first_s:.2f} s")
        if self.finish_reason == "length":
            parts.append("cut off by its limit")
        return ", ".join(parts)


class ChatClient:
    """One server, by the root of its URL or with /v1 behind it."""

    def __init__(self, url: str, api_key: str = "") -> None:
        """Raises ValueError for what is no URL."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"it must be http://... or https://..., not {url!r}")
        self._is_tls, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = quote(parts.path.rstrip("/").removesuffix("/v1"), safe="/%")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = f"{parts.scheme}://{parts.netloc}{self._path}"

    def models(self) -> list[dict[str, Any]]:
        """Return the cards of the names that it serves. Raises ChatError."""
        with closing(self._connection()) as connection:
            response = self._send(connection, "GET", "/v1/models", None)
            listed = self._json(response).get("data")
        cards = listed if isinstance(listed, list) else []
        models = [card for card in cards if isinstance(card, dict) and "id" in card]
        if not models:
            raise ChatError(f"{self.url} serves no model")
        return models

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        fields: Mapping[str, object],
        into: Figures | None = None,
    ) -> Answer:
        """Yield an answer to a conversation; its figures are kept in `into`. Raises ChatError."""
        body = {"model": model, "messages": list(messages), **fields}
        return self._stream("/v1/chat/completions", body, into)

    def complete(self, model: str, prompt: str, fields: Mapping[str, object]) -> Answer:
        """Yield what continues a prompt. Raises ChatError."""
        return self._stream("/v1/completions", {"model": model, "prompt": prompt, **fields}, None)

    def _stream(self, path: str, body: dict[str, object], into: Figures | None) -> Answer:
        into = into or Figures()
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        began_s = time.monotonic()
        with closing(self._connection()) as connection:
            response = self._send(connection, "POST", path, body)
            for chunk in self._events(response):
                if usage := chunk.get("usage"):
                    into.num_tokens = usage.get("completion_tokens", into.num_tokens)
                for choice in chunk.get("choices") or []:
                    into.finish_reason = choice.get("finish_reason") or into.finish_reason
                    for piece in _pieces(choice):
                        into.all_s = time.monotonic() - began_s
                        into.first_s = into.first_s or into.all_s
                        into.num_tokens += 1
                        yield piece

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """Yield the JSON of each event, to the last. Raises ChatError for one that is an error."""
        try:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if not isinstance(event, dict):
                    raise ValueError(f"{data[:40]!r} is no part of an answer")
                if "error" in event:
                    raise ChatError(_words(event))
                yield event
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ChatError(f"{self.url} broke off: {error or type(error).__name__}") from error
        raise ChatError(f"{self.url} broke off before the answer's end")

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_SECONDS, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: object
    ) -> http.client.HTTPResponse:
        """Send a request; return the answer if it is a success. Raises ChatError."""
        headers = {**self._headers, "content-type": "application/json"}
        try:
            data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # bytes of a command line or a file in some other encoding
            raise ChatError("what is asked is no text in UTF-8") from None
        try:
            connection.connect()
            connection.sock.settimeout(None)  # a long prompt may take minutes
            connection.request(method, self._path + path, data, headers)
            response = connection.getresponse()
            if response.status == 200:
                return response
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise ChatError(f"{self.url} cannot be reached: {_reason(error)}") from error
        raise ChatError(f"{self.url} answers {response.status}: {_words_of(text)}")

    def _json(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            value = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ChatError(f"{self.url} answers no JSON: {error}") from error
        return value if isinstance(value, dict) else {}


def _pieces(choice: dict[str, Any]) -> Iterator[Piece]:
    delta = choice.get("delta")
    if delta is None:
        if text := choice.get("text"):
            yield Piece(text)
        return
    # vLLM and we say both, DeepSeek the first, OpenRouter the second.
    if thought := delta.get("reasoning_content") or delta.get("reasoning"):
        yield Piece(thought, is_thought=True)
    if text := delta.get("content"):
        yield Piece(text)


def _words(body: dict[str, Any]) -> str:
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return str(error or body)


def _words_of(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return text.strip()[:500] or "nothing"
    return _words(body) if isinstance(body, dict) else text[:500]


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; SSL_CERT_FILE=its.pem trusts a certificate of one's own"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
