"""What cells have put out for programs: JSON, under a type of its own."""

import json
from collections.abc import Mapping
from typing import Any


def structured(data: Mapping[str, Any], mime_type: str) -> dict[str, Any]:
    """Return what an output's data hold under a type; a notebook may have stored it as text."""
    stored = data[mime_type]
    return json.loads(stored) if isinstance(stored, str) else dict(stored)
