"""Log events: one line each, as text for people or as JSON for machines, on standard error.

Whatever a client sent is escaped, so no request can forge an event or move a terminal's cursor.
Prompts and keys are never given to a logger. Called once by each process as it starts.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

import msgspec

Format = Literal["text", "json"]
Fields = Mapping[str, object]

# Values with one of these are quoted, so that key=value pairs can be told apart.
_DELIMITERS = frozenset(' "=\\')


def configure(process: str, level: str, log_format: Format) -> None:
    """Send every event of this process to standard error, those of libraries included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if log_format == "json" else TextFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def fields(**values: object) -> dict[str, Fields]:
    """Return the `extra` of a log call, whose values become fields of the event."""
    return {"fields": values}


class TextFormatter(logging.Formatter):
    """`time LEVEL process: message key=value`; a traceback follows, each line indented."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Render one event."""
        words = [_time(record), record.levelname, f"{self._process}:", escaped(record.getMessage())]
        words += [f"{name}={_quoted(value)}" for name, value in _fields_of(record).items()]
        lines = [" ".join(words)]
        lines += [f"    {escaped(line)}" for line in _traceback(record).splitlines()]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """An object a line: time, level, process, logger, message, the event's fields, exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Render one event."""
        event: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if exception := _traceback(record):
            event["exception"] = exception
        whole = {key: _encodable(value) for key, value in event.items()}
        return msgspec.json.encode(whole, enc_hook=str).decode()


def escaped(text: str) -> str:
    """Replace what does not print: controls, line breaks of every kind, direction marks."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not _DELIMITERS.intersection(text):
        return text
    inner = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(inner)}"'


def _encodable(value: object) -> object:
    """A lone surrogate, from an undecodable path, has no UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields_of(record: logging.LogRecord) -> Fields:
    found: Fields = getattr(record, "fields", {})
    return found


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def _log_uncaught(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    logging.getLogger("unisono").critical("uncaught error", exc_info=(kind, error, where))
