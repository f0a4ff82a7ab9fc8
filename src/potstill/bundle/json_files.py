"""Small JSON files of a model folder, read with errors that name the file.

The standard library reads them: training must run where orjson is not installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.files import write_atomically

_LARGEST_BYTES = 64 * 2**20  # a config is kilobytes; more is no config


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object.

    Raises:
        ModelError: missing, too large, not JSON, or something else than an object.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise ModelError("the file does not hold a JSON object", where=str(path))
    return content


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Read a JSON file that must hold a list of objects.

    Raises:
        ModelError: missing, too large, not JSON, or something else.
    """
    content = _read(path)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ModelError("the file does not hold a JSON list of objects", where=str(path))
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON as transformers does: two blanks of indent, a newline at the end."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_atomically(path, text.encode() + b"\n")


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ModelError(
                f"the file has {path.stat().st_size:,} bytes",
                where=str(path),
                allowed=f"at most {_LARGEST_BYTES:,}",
            )
        content = json.loads(path.read_bytes().decode())
        json.dumps(content, ensure_ascii=False).encode()  # what is read here is written elsewhere
        return content
    except FileNotFoundError as error:
        raise ModelError("the file is missing", where=str(path)) from error
    except OSError as error:
        raise ModelError(f"cannot read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ModelError(
            f"byte {error.start} is not UTF-8",
            where=str(path),
            cure="download or copy the file again",
        ) from error
    except UnicodeEncodeError as error:
        raise ModelError("a text holds a lone surrogate", where=str(path)) from error
    except RecursionError as error:
        raise ModelError("nested too deep to be a config", where=str(path)) from error
    except json.JSONDecodeError as error:
        raise ModelError(
            f"not JSON: {error.msg}",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            cure="download or copy the file again",
        ) from error
    except ValueError as error:  # a number of more digits than Python converts
        raise ModelError("holds a number of thousands of digits", where=str(path)) from error
