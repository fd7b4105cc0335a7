"""How much of the machine others had while something was timed: the commonest reason for speeds that mislead.

With more runnable threads than cores, a thread that waits for its siblings waits for whoever has their core. Runtimes
suffer from that very differently (OpenMP's barriers more than task queues), so that even ratios of interleaved
measurements are no longer those of the networks.
"""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
TOLERABLE = 0.1
"""Cores that others may have on average, beyond those left over, before ratios are called disturbed; an idle machine's
services stay below."""


class CpuLoad:
    """Watches from its making on; needs Linux's `/proc/stat`."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._before = self._reading()

    def other_cores(self) -> float | None:
        """Cores that other processes (and other virtual machines on ours) had on average; None where unknown."""
        before, now = self._before, self._reading()
        if before is None or now is None or now[0] <= before[0]:
            return None
        wall, busy, own = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, (busy - own) / wall)

    def _reading(self) -> tuple[float, float, float] | None:
        """Seconds of the wall, of all busy cores, and of this process."""
        try:
            fields = [int(field) for field in self._stat.read_text().split("\n", 1)[0].split()[1:]]
            ticks = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
        own = os.times()
        return time.monotonic(), (user + nice + system + irq + softirq + steal) / ticks, own.user + own.system
