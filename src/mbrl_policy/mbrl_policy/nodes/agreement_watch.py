# SPDX-License-Identifier: Apache-2.0
"""Compares a policy with the planner's plans in the graph."""

from mbrl_core.delay import whole_steps
from mbrl_core.messages import TimeStep
from mbrl_core.policies.fast import FastPolicy
from mbrl_core.specs import RobotSpec
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_policy.agreement import AgreementConfig, AgreementMonitor, action_difference, training_distance
from mbrl_ros.conversions import MessageError, plan_from_message
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.qos import PLAN_FROM_ALL, QUIET_SUBSCRIPTION


class AgreementWatch:
    """Hears the planner's plans where `config.planner` names one. `monitor` says whether the policy acts."""

    def __init__(self, node: ManagedNode, config: AgreementConfig, health: Health) -> None:
        self.monitor = AgreementMonitor(config)
        self._node, self._health = node, health
        self._policy: FastPolicy | None = None
        self._spec: RobotSpec | None = None
        self._newest: TimeStep | None = None
        if config.planner:
            node.create_subscription(
                PlanMessage, "plan", self._on_plan, PLAN_FROM_ALL, event_callbacks=QUIET_SUBSCRIPTION
            )

    def start(self, policy: FastPolicy, spec: RobotSpec) -> None:
        """Another policy is in force."""
        self._policy, self._spec = policy, spec
        self.monitor.start()

    def allows(self, time_step: TimeStep) -> bool:
        """Takes the newest time step; whether the policy may answer it."""
        self._newest = time_step
        if self.monitor.config.planner and self._policy is not None:
            acted = self.monitor.acts
            self.monitor.visit(training_distance(self._policy, time_step.state))
            self._tell(acted)
        return self.monitor.acts

    def report(self) -> None:
        """Figures for /diagnostics."""
        if self.monitor.config.planner:
            self._health.set("acts", self.monitor.acts)
            self._health.set("difference_to_planner", self.monitor.difference)
            self._health.set("take_overs", self.monitor.take_overs)

    def _on_plan(self, message: PlanMessage) -> None:
        newest, policy, spec = self._newest, self._policy, self._spec
        if message.controller != self.monitor.config.planner or newest is None or policy is None or spec is None:
            return
        if message.episode != newest.episode:
            return
        try:
            plan = plan_from_message(message, spec)
        except MessageError as error:
            self._health.refuse(f"plan/{error.reason}", str(error))
            return
        # The one in which the row acts.
        step = message.start_step + whole_steps(spec)
        if plan.predicted_states is not None:
            state = plan.predicted_states[min(whole_steps(spec), len(plan.actions))]
        elif message.start_step == newest.step and not spec.delay:
            state = newest.state
        else:
            return
        if policy.horizon is not None and step >= policy.horizon:
            return
        acted = self.monitor.acts
        own = policy.action(state, step)
        self.monitor.compare(action_difference(own, plan.actions[0], policy.lower, policy.upper))
        self._tell(acted)

    def _tell(self, acted: bool) -> None:
        monitor = self.monitor
        if monitor.acts != acted and self._newest is not None:
            what = "the policy acts" if monitor.acts else f"{monitor.config.planner!r} takes over"
            where = f"episode {self._newest.episode}, step {self._newest.step}"
            self._node.get_logger().info(f"{what} ({where}): {monitor.reason}")
