# SPDX-License-Identifier: Apache-2.0
"""`./mbrl doctor`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..doctor.finding import Finding

MARKS = {"well": "  ok ", "attention": "  !! ", "wrong": "WRONG"}


def main(arguments: list[str]) -> int:
    """Returns the exit status: 1 when something is wrong, 0 when at most something deserves attention."""
    parser = argparse.ArgumentParser(
        prog="./mbrl doctor",
        description="Say in plain words what is wrong with this machine or with the system that runs in this ROS"
        " domain, and what to do about it. It only looks and listens: no robot is disturbed.",
    )
    parser.add_argument("--machine", action="store_true", help="look at the machine alone")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to listen (default: 3)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are written (default: runs)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.seconds <= 3600.0:
        parser.error(f"--seconds: got {options.seconds:g}, expected 0.1 to 3600")
    from ..doctor.finding import WRONG, worst
    from ..doctor.machine import Machine, discovery_findings, machine_findings

    findings = machine_findings(Machine.here(options.runs)) + discovery_findings(os.environ)
    _tell("This machine", findings)
    if not options.machine:
        from ..doctor.graph import graph_findings
        from ..doctor.observe import observe
        from .client import talk

        with talk("_mbrl_doctor", "", options.seconds) as conversation:
            running = graph_findings(observe(conversation.node, options.seconds))
        _tell(f"ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}", running)
        findings += running
    return 1 if worst(findings) == WRONG else 0


def _tell(title: str, findings: list[Finding]) -> None:
    print(title)
    for finding in findings:
        print(f"{MARKS[finding.level]} {finding.text}")
        if finding.advice:
            print(f"        {finding.advice}")
