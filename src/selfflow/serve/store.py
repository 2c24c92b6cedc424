"""What the studio keeps, in one SQLite file: assets by the hash of their bytes, and the history that names them.

SQLite's journal makes every change whole or not at all, whatever kills the process; `keep` also waits for the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfflow.serve.limits import Limits, Refused

SCHEMA = """
CREATE TABLE IF NOT EXISTS assets (
  hash TEXT PRIMARY KEY, mime TEXT NOT NULL, about TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL,
  data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS assets_used ON assets (used);
CREATE TABLE IF NOT EXISTS entries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created REAL NOT NULL, parent TEXT,
  task TEXT NOT NULL, settings TEXT NOT NULL, parts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uses (id TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (id, hash)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uses_hash ON uses (hash);
"""
_STALE = 60.0  # seconds: `used` is not written more often


def default_directory() -> Path:
    """`$XDG_DATA_HOME/selfflow`, by default `~/.local/share/selfflow`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "selfflow"


@dataclass(frozen=True)
class Asset:
    """Bytes, their hash, what kind they are (`picture`, `clip`, `sound`), and about: width, height, frames, fps …"""

    hash: str
    mime: str
    data: bytes
    about: Mapping[str, Any]


class Store:
    """Assets and history in `directory`, or in memory without one. Any thread may call."""

    def __init__(self, directory: Path | None, limits: Limits | None = None) -> None:
        self.limits, self.lock = limits or Limits(), threading.RLock()
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        name = ":memory:" if directory is None else str(directory / "studio.sqlite")
        try:
            self.db = sqlite3.connect(name, timeout=10, check_same_thread=False, isolation_level=None)
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.executescript(SCHEMA)
            self.bytes = int(self.db.execute("SELECT COALESCE(SUM(bytes), 0) FROM assets").fetchone()[0])
        except sqlite3.Error as error:
            raise OSError(f"{name} cannot be opened: {error}; move it away, or choose another --data") from error

    def close(self) -> None:
        with self.lock:
            self.db.close()

    @contextmanager
    def _change(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A change that is made whole or not at all, in the count of bytes, too."""
        with self.lock:
            if durable:
                self.db.execute("PRAGMA synchronous = FULL")
            before = self.bytes
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                self.bytes = before
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
            finally:
                if durable:
                    self.db.execute("PRAGMA synchronous = NORMAL")

    # -------------------------------------------------------------------------------------------------------- assets

    def put(self, data: bytes, mime: str, about: Mapping[str, Any]) -> str:
        """Keep bytes; returns their hash. Room is made by forgetting what was used longest ago and no entry needs.

        Raises:
            Refused: when the history alone fills the store.
        """
        found = hashlib.sha256(data).hexdigest()
        with self._change() as db:
            now = time.time()
            if db.execute("UPDATE assets SET used = ? WHERE hash = ?", (now, found)).rowcount:
                return found
            self._make_room(len(data))
            db.execute(
                "INSERT INTO assets VALUES (?, ?, ?, ?, ?, ?)", (found, mime, json.dumps(about), len(data), now, data)
            )
            self.bytes += len(data)
        return found

    def _make_room(self, count: int) -> None:
        while self.bytes + count > self.limits.store_bytes:
            rows = self.db.execute(
                "SELECT hash, bytes FROM assets WHERE hash NOT IN (SELECT hash FROM uses) ORDER BY used LIMIT 32"
            ).fetchall()
            if not rows:
                raise Refused("too_large", "the history fills the store; delete some of it", status=507)
            for found, size in rows:
                self.db.execute("DELETE FROM assets WHERE hash = ?", (found,))
                self.bytes -= size
                if self.bytes + count <= self.limits.store_bytes:
                    break
            self.db.execute("PRAGMA incremental_vacuum")

    def get(self, found: str) -> Asset:
        """The asset of that hash.

        Raises:
            Refused: `not_found`.
        """
        with self.lock:
            row = self.db.execute("SELECT mime, about, data, used FROM assets WHERE hash = ?", (found,)).fetchone()
            if row is None:
                raise Refused(
                    "not_found", f"there is no asset {found[:64]!r}; it may have been forgotten: send it again"
                )
            now = time.time()
            if now - row[3] > _STALE:
                self.db.execute("UPDATE assets SET used = ? WHERE hash = ?", (now, found))
        return Asset(found, row[0], row[2], json.loads(row[1]))

    # ------------------------------------------------------------------------------------------------------- history

    def keep(
        self, task: str, settings: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], parent: str | None
    ) -> dict[str, Any]:
        """Add an entry; it is on the disk when this returns.

        Raises:
            Refused: when an asset it names is gone, or the history is full.
        """
        needed = {part["hash"] for part in parts} | {r["hash"] for r in settings.get("references", ())}
        needed |= {settings[key] for key in ("source", "mask") if settings.get(key)}
        with self._change(durable=True) as db:
            if db.execute("SELECT COUNT(*) FROM entries").fetchone()[0] >= self.limits.entries:
                raise Refused("too_large", f"the history has {self.limits.entries} entries; delete some", status=507)
            for found in sorted(needed):
                if not db.execute("SELECT 1 FROM assets WHERE hash = ?", (found,)).fetchone():
                    raise Refused("not_found", f"the asset {found} is gone; make the result again")
            if parent is not None and not db.execute("SELECT 1 FROM entries WHERE id = ?", (parent,)).fetchone():
                parent = None  # it was deleted meanwhile
            entry, now = secrets.token_hex(8), time.time()
            db.execute(
                "INSERT INTO entries (id, created, parent, task, settings, parts) VALUES (?, ?, ?, ?, ?, ?)",
                (entry, now, parent, task, json.dumps(settings), json.dumps(parts)),
            )
            db.executemany("INSERT INTO uses VALUES (?, ?)", [(entry, found) for found in needed])
        return self.entry(entry)

    def entry(self, entry: str) -> dict[str, Any]:
        """One entry. Raises `Refused`: `not_found`."""
        with self.lock:
            row = self.db.execute(f"SELECT {_COLUMNS} FROM entries WHERE id = ?", (entry,)).fetchone()
        if row is None:
            raise Refused("not_found", f"the history has no entry {entry[:64]!r}")
        return _entry(row)

    def entries(self, limit: int = 100, before: str | None = None) -> list[dict[str, Any]]:
        """Newest first; those before an entry, if it is named."""
        with self.lock:
            where, values = "", list[Any]()
            if before is not None:
                row = self.db.execute("SELECT number FROM entries WHERE id = ?", (before,)).fetchone()
                if row is None:
                    raise Refused("not_found", f"the history has no entry {before[:64]!r}", "before")
                where, values = "WHERE number < ?", [row[0]]
            rows = self.db.execute(
                f"SELECT {_COLUMNS} FROM entries {where} ORDER BY number DESC LIMIT ?", [*values, limit]
            ).fetchall()
        return [_entry(row) for row in rows]

    def delete(self, entry: str) -> None:
        """Forget an entry; those that came from it now come from where it came from.

        Raises:
            Refused: `not_found`.
        """
        with self._change(durable=True) as db:
            row = db.execute("SELECT parent FROM entries WHERE id = ?", (entry,)).fetchone()
            if row is None:
                raise Refused("not_found", f"the history has no entry {entry[:64]!r}")
            db.execute("UPDATE entries SET parent = ? WHERE parent = ?", (row[0], entry))
            db.execute("DELETE FROM entries WHERE id = ?", (entry,))
            db.execute("DELETE FROM uses WHERE id = ?", (entry,))


_COLUMNS = "id, created, parent, task, settings, parts"


def _entry(row: Sequence[Any]) -> dict[str, Any]:
    entry, created, parent, task, settings, parts = row
    return {
        "id": entry, "created": created, "parent": parent, "task": task, "settings": json.loads(settings),
        "parts": json.loads(parts),
    }  # fmt: skip
