"""Host names that lead where a test says, for one proxy, and that a test can change while it runs.

The proxy asks its loop, as always; the loop answers from a file (``prelude/sitecustomize.py``). So this shows what the
proxy makes of the answers and when it asks, not what the system's resolver does.
"""

import json
import os
from pathlib import Path

PRELUDE = Path(__file__).parent / "prelude"


class Names:
    """The names in ``directory``; ``environment`` is for the proxy."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "names.json"
        self._names: dict[str, list[str]] = {}
        self.set()
        path = os.pathsep.join(filter(None, (str(PRELUDE), os.environ.get("PYTHONPATH", ""))))
        self.environment = {"PYTHONPATH": path, "TEST_NAMES": str(self._file)}

    def set(self, name: str = "", *addresses: str) -> None:
        """``name`` has these addresses from now on."""
        if name:
            self._names[name] = list(addresses)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._names))
        fresh.replace(self._file)
