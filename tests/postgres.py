"""A real PostgreSQL server for tests: in a folder of its own, over a socket in it, as a user who is not root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def programs() -> Path:
    """The folder of `initdb` and `pg_ctl`; skips the test, loudly, where there is none."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        real = (folder / "initdb").resolve().parent
        if (real / "pg_ctl").exists():
            return real
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql), so workers on a server are untested")


class Server:
    """Start, stop and crash it."""

    def __init__(self) -> None:
        self.bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="lale-bench-pg-"))
        self._as = self._unprivileged()
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _unprivileged(self) -> list[str]:
        """The server refuses to run as root: run it as `postgres`, or as nobody."""
        if os.geteuid() != 0:
            return []
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(self.folder, user)
        who = pwd.getpwnam(user)
        return ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self.bin / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{program}: {done.stdout} {done.stderr}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.folder / "log"), "-o", options)

    def crash(self) -> None:
        """Stop as in a power cut: open connections break off, what was not committed is lost."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def remove(self) -> None:
        subprocess.run([*self._as, str(self.bin / "pg_ctl"), "stop", "-m", "immediate", "-D", self._data],
                       cwd=self.folder, capture_output=True, timeout=60)  # fmt: skip
        shutil.rmtree(self.folder, ignore_errors=True)
