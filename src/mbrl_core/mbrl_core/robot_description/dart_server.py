# SPDX-License-Identifier: Apache-2.0
"""Simulates one URDF or SDF in DART, Gazebo's physics, step by step. A program for the Python that has dartpy.

Frames go in on standard input and come out on standard output: the length of what follows the head (uint32), a byte,
and the payload, little-endian. The byte says what is asked for, and in an answer whether it went well; what did not is
answered by a text. States [2 joints] are positions, then velocities, in the order of CONFIGURE, which comes first.

    CONFIGURE   JSON: path, joints (names), armatures, lower, upper (null: unlimited), timestep (s)    answer: nothing
    RESET       state [2 joints]                                                                       answer: state
    ADVANCE     efforts [joints], number of whole time steps, seconds of one more, shorter (0: none)   answer: state

It ends with the file that it reads from, and so with the process that writes it, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Any

try:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from dart_program import add_inertia, read  # type: ignore[import-not-found]
    from dartpy.simulation import World
except ImportError:
    sys.exit(3)  # said once, by the one who started this

HEAD = struct.Struct("<IB")
CONFIGURE, RESET, ADVANCE = range(3)
WELL, FAILED = range(2)


class Server:
    """The world with its one robot."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._robot = read(content["path"])
        names = [self._robot.getDof(index).getName() for index in range(self._robot.getNumDofs())]
        if sorted(names) != sorted(content["joints"]):
            raise SystemExit(f"{content['path']}: DART finds joints {names}, expected {content['joints']}")
        self._order = [names.index(name) for name in content["joints"]]
        self._count = len(names)
        self._timestep = float(content["timestep"])
        for index, lower, upper in zip(self._order, content["lower"], content["upper"], strict=True):
            degree = self._robot.getDof(index)
            if lower is not None:
                degree.setPositionLowerLimit(lower)
            if upper is not None:
                degree.setPositionUpperLimit(upper)
        # As Gazebo has it, where DART itself leaves limits off.
        for index in range(self._robot.getNumJoints()):
            self._robot.getJoint(index).setLimitEnforcement(True)
        self._rotors = [
            (self._robot.getDof(index), armature)
            for index, armature in zip(self._order, content["armatures"], strict=True)
            if armature
        ]
        self._world = World()
        self._world.setGravity([0.0, 0.0, -9.81])
        self._world.addSkeleton(self._robot)
        self._doubles = struct.Struct(f"<{2 * self._count}d")
        self._advance = struct.Struct(f"<{self._count}dId")

    def reset(self, payload: bytes) -> bytes:
        """Puts the robot into a state."""
        state = self._doubles.unpack(payload)
        self._world.reset()
        self._robot.resetCommands()
        self._robot.setPositions(self._in_order(state[: self._count]))
        self._robot.setVelocities(self._in_order(state[self._count :]))
        return payload

    def advance(self, payload: bytes) -> bytes:
        """Integrates under constant efforts."""
        *efforts, steps, rest = self._advance.unpack(payload)
        whole = self._in_order(efforts)
        for _ in range(steps):
            self._step(whole, self._timestep)
        if rest:
            self._step(whole, rest)
        values = (self._robot.getPositions(), self._robot.getVelocities())
        return self._doubles.pack(*(part[index] for part in values for index in self._order))

    def _step(self, efforts: Sequence[float], seconds: float) -> None:
        self._world.setTimeStep(seconds)
        self._robot.setForces(efforts)
        for degree, armature in self._rotors:
            add_inertia(degree, armature, seconds)
        self._world.step()

    def _in_order(self, values: Sequence[float]) -> list[float]:
        whole = [0.0] * self._count
        for index, value in zip(self._order, values, strict=True):
            whole[index] = value
        return whole


def main() -> None:
    """Answers until the input ends."""
    # Signals to the group are for the node, which still needs its simulation when it takes leave.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    source, sink = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    server: Server | None = None
    while len(head := source.read(HEAD.size)) == HEAD.size:
        size, kind = HEAD.unpack(head)
        payload = source.read(size)
        try:
            if kind == CONFIGURE:
                server, answer = Server(json.loads(payload)), b""
            elif server is None:
                raise SystemExit("DART: the first frame has to configure")
            else:
                answer = server.reset(payload) if kind == RESET else server.advance(payload)
            status = WELL
        except (SystemExit, Exception) as error:
            status, answer = FAILED, str(error).encode()
        sink.write(HEAD.pack(len(answer), status) + answer)
        sink.flush()


if __name__ == "__main__":
    main()
