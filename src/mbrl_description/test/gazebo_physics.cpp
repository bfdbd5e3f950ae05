// SPDX-License-Identifier: Apache-2.0
// Moves the model of an SDF world as Gazebo does: sdformat reads it, gz-physics' DART plugin steps it.
//   gazebo_physics PLUGIN WORLD MODEL STEP_NS STEPS_PER_PERIOD PERIODS JOINT...
// Standard input: positions, velocities, then for each period the forces, each in the order of the joints. Standard
// output: a line of positions and velocities after every period.
#include <chrono>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <vector>

#include <ignition/physics/ForwardStep.hh>
#include <ignition/physics/GetEntities.hh>
#include <ignition/physics/Joint.hh>
#include <ignition/physics/RequestEngine.hh>
#include <ignition/physics/sdf/ConstructJoint.hh>
#include <ignition/physics/sdf/ConstructLink.hh>
#include <ignition/physics/sdf/ConstructModel.hh>
#include <ignition/physics/sdf/ConstructWorld.hh>
#include <ignition/plugin/Loader.hh>
#include <sdf/Root.hh>
#include <sdf/World.hh>

namespace physics = ignition::physics;

struct Features
    : physics::FeatureList<physics::ForwardStep, physics::GetEntities, physics::GetBasicJointState,
                           physics::SetBasicJointState, physics::GetBasicJointProperties,
                           physics::sdf::ConstructSdfWorld, physics::sdf::ConstructSdfModel,
                           physics::sdf::ConstructSdfLink, physics::sdf::ConstructSdfJoint> {};

int fail(const std::string &what)
{
  std::cerr << what << '\n';
  return 1;
}

int main(int count, char **words)
{
  if (count < 8) return fail("expected PLUGIN WORLD MODEL STEP_NS STEPS_PER_PERIOD PERIODS JOINT...");
  ignition::plugin::Loader loader;
  loader.LoadLib(words[1]);
  auto engine = physics::RequestEngine<physics::FeaturePolicy3d, Features>::From(
      loader.Instantiate("ignition::physics::dartsim::Plugin"));
  if (!engine) return fail(std::string("no DART in ") + words[1]);
  sdf::Root root;
  for (const auto &error : root.Load(words[2])) return fail(error.Message());
  auto world = engine->ConstructWorld(*root.WorldByIndex(0));
  auto model = world->GetModel(words[3]);
  if (!model) return fail(std::string("no model ") + words[3]);
  const int steps_per_period = std::atoi(words[5]), periods = std::atoi(words[6]);
  std::vector<physics::JointPtr<physics::FeaturePolicy3d, Features>> joints;
  for (int word = 7; word < count; ++word) {
    auto joint = model->GetJoint(words[word]);
    if (!joint || joint->GetDegreesOfFreedom() != 1) return fail(std::string(words[word]) + " does not move");
    joints.push_back(joint);
  }

  double number = 0.0;
  for (auto &joint : joints) { std::cin >> number; joint->SetPosition(0, number); }
  for (auto &joint : joints) { std::cin >> number; joint->SetVelocity(0, number); }
  physics::ForwardStep::Output output;
  physics::ForwardStep::State state;
  physics::ForwardStep::Input input;
  input.Get<std::chrono::steady_clock::duration>() = std::chrono::nanoseconds(std::atol(words[4]));
  std::vector<double> forces(joints.size());
  std::cout << std::setprecision(17);
  for (int period = 0; period < periods; ++period) {
    for (auto &force : forces) std::cin >> force;
    for (int step = 0; step < steps_per_period; ++step) {
      for (std::size_t index = 0; index < joints.size(); ++index) joints[index]->SetForce(0, forces[index]);
      world->Step(output, state, input);
    }
    for (auto &joint : joints) std::cout << joint->GetPosition(0) << ' ';
    for (auto &joint : joints) std::cout << joint->GetVelocity(0) << ' ';
    std::cout << '\n';
  }
}
