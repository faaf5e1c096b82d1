"""Files that are read again when they change."""

import os
from pathlib import Path

from proxy.transport.watched_files import WatchedFiles


def test_each_change_is_seen_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a")
    files = WatchedFiles((str(one), str(other)))
    assert not files.changed()
    other.write_text("b")
    assert files.changed()
    assert not files.changed()
    one.write_text("longer")
    assert files.changed()
    (tmp_path / "new").write_text("longer")
    os.utime(tmp_path / "new", ns=(one.stat().st_atime_ns, one.stat().st_mtime_ns))
    (tmp_path / "new").rename(one)
    assert files.changed()
    other.unlink()
    assert files.changed()
    assert not files.changed()
