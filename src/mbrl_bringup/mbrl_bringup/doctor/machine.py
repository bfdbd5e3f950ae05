# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine: what robot loops at a fixed rate, recordings and discovery need of it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mbrl_robot.nodes.configuration import RobotConfiguration

from .finding import ATTENTION, WELL, WRONG, Finding

MEGABYTE = 2**20
LEAST_DISK, LITTLE_DISK = 200 * MEGABYTE, 2000 * MEGABYTE  # the first is recorder_node's `minimum_free_space`
LEAST_MEMORY = 1000 * MEGABYTE  # a learner, a planner and a robot with torch in two of them
LEAST_LOCKED = 512 * MEGABYTE  # what robot_node has in memory when it runs
FIRST_PORT, PORTS_A_DOMAIN = 7400, 250  # of DDS (RTPS 2.5, section 9.6.1.1)


@dataclass(frozen=True)
class Machine:
    """What was read off a machine: sizes in bytes, `locked` and `priority` are a process's limits, -1 without one;
    whoever is `privileged` has none.
    """

    cores: int
    load: float
    free_memory: int
    free_disk: int
    folder: Path
    locked: int
    priority: int
    writable: bool
    privileged: bool

    @classmethod
    def here(cls, folder: Path) -> Machine:
        """This one; `folder` is where runs are written."""
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        return cls(
            len(os.sched_getaffinity(0)), os.getloadavg()[0], _free_memory(), shutil.disk_usage(existing).free, folder,
            resource.getrlimit(resource.RLIMIT_MEMLOCK)[1], resource.getrlimit(resource.RLIMIT_RTPRIO)[1],
            os.access(existing, os.W_OK), os.geteuid() == 0,
        )  # fmt: skip


def machine_findings(machine: Machine) -> list[Finding]:
    """Of cores, memory, disk and limits."""
    return [_processor(machine), _memory(machine), _disk(machine), _locking(machine), _precedence(machine)]


def _processor(machine: Machine) -> Finding:
    told = f"{machine.cores} cores, load {machine.load:.1f}"
    if machine.cores < 2:
        return Finding(
            ATTENTION, told, "robot, planner and learner share one core: plans will be late; use two or more"
        )
    if machine.load > machine.cores:
        return Finding(
            ATTENTION, told, "more wants to run than there are cores: plans may be late; stop what is not needed"
        )
    return Finding(WELL, told)


def _memory(machine: Machine) -> Finding:
    told = f"{machine.free_memory // MEGABYTE} MB of memory free"
    if machine.free_memory < LEAST_MEMORY:
        return Finding(ATTENTION, told, f"learner and planner want {LEAST_MEMORY // MEGABYTE} MB: the machine may swap")
    return Finding(WELL, told)


def _disk(machine: Machine) -> Finding:
    told = f"{machine.free_disk // MEGABYTE} MB free where {machine.folder} is"
    if not machine.writable:
        return Finding(WRONG, f"{machine.folder} cannot be written to", "say run_directory:=FOLDER of one that can")
    if machine.free_disk < LEAST_DISK:
        return Finding(WRONG, told, f"recordings stop below {LEAST_DISK // MEGABYTE} MB: make room")
    if machine.free_disk < LITTLE_DISK:
        return Finding(ATTENTION, told, "pictures fill that within the hour: make room before a long recording")
    return Finding(WELL, told)


def _locking(machine: Machine) -> Finding:
    if machine.privileged or machine.locked == -1 or machine.locked >= LEAST_LOCKED:
        return Finding(WELL, "robot_node may lock its memory")
    return Finding(
        ATTENTION, f"robot_node may lock {machine.locked // MEGABYTE} MB of memory only",
        "a tick may wait for the disk; in /etc/security/limits.conf: `USER - memlock unlimited`",
    )  # fmt: skip


def _precedence(machine: Machine) -> Finding:
    asked = RobotConfiguration().scheduling_priority
    if machine.privileged or machine.priority == -1 or machine.priority >= asked:
        return Finding(WELL, "robot_node may take precedence over other processes")
    return Finding(
        ATTENTION, f"robot_node may not take precedence: its greatest real-time priority is {machine.priority}",
        f"ticks wait for whatever else runs; in /etc/security/limits.conf: `USER - rtprio {asked}`",
    )  # fmt: skip


def discovery_findings(environment: Mapping[str, str]) -> list[Finding]:
    """Of the variables that decide who finds whom, and whether the domain's port is open to us."""
    given = environment.get("ROS_DOMAIN_ID", "0")
    if not given.isdecimal() or int(given) > 232:
        return [Finding(WRONG, f"ROS_DOMAIN_ID is {given!r}", "a number from 0 to 232, the same for all nodes")]
    domain, reach = int(given), environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    found = [Finding(WELL, f"ROS domain {domain}, discovery {reach}")]
    if domain > 101:
        found[0] = Finding(
            ATTENTION, f"ROS domain {domain}",
            "its ports lie where Linux takes ports for other programs; 0 to 101 are free of that",
        )  # fmt: skip
    if reach == "OFF":
        found.append(
            Finding(WRONG, "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF", "no node finds another: LOCALHOST or SUBNET")
        )
    port = FIRST_PORT + PORTS_A_DOMAIN * domain
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            found.append(
                Finding(WRONG, f"UDP port {port} cannot be opened: {error.strerror}", "another ROS_DOMAIN_ID may do")
            )
    return found


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
