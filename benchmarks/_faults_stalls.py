# SPDX-License-Identifier: Apache-2.0
"""Tells when the machine held up one of its processors: a JSON array ["h", begin, end] a line, in ns since 1970.

A process that does nothing but wake up, with precedence over all that is measured. Where it comes late, nothing of the
same processor ran meanwhile: another machine on the same host, or the kernel, had it. Ends with standard input.
"""

import argparse
import json
import os
import select
import sys
import time

INTERVAL = 0.002  # s between two looks
HELD_UP = 0.004  # s beyond the interval from which on a hold-up is told
PRIORITY = 3  # SCHED_RR, above the observer and the nodes that tick


def main() -> int:
    """Looks until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processor", type=int)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.processor})
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError:
        return 0  # without precedence it would tell of the load
    due = time.monotonic()
    while True:
        due = max(due + INTERVAL, time.monotonic())
        if select.select([sys.stdin], [], [], max(due - time.monotonic(), 0.0))[0]:
            return 0
        late = time.monotonic() - due
        if late > HELD_UP:
            # It may have begun as soon as this process slept.
            now = time.time_ns()
            print(json.dumps(["h", now - round((late + INTERVAL) * 1e9), now]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
