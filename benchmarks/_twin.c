// SPDX-License-Identifier: Apache-2.0
// Forward dynamics of a mechanism with two joints, integrated by the classical Runge-Kutta method, for many action
// sequences at once. Of equation
//     [a0 + a1 cos q2, b0 + b1 cos q2; ., d0] qdd + bias(q, qd) + damping qd = gain u + limit force
// every coefficient is measured on the MuJoCo model; see _twin.py. One joint may have limits, which are the soft
// constraints of MuJoCo's documentation ("Computation", constraint model); with a single one its solver's optimum is
// in closed form. Or as DART does it: semi-implicit Euler steps, damping implicit, and a limit that no step passes.

#include <math.h>
#include <stddef.h>

#define LANES 32

struct twin {
    double a0, a1, b0, b1, d0;    // mass matrix
    double rotates;               // 1: joint 1 is a hinge about the axis of joint 2, 0: a slider
    double g1, g2;                // gravity: g1 sin q1 and g2 sin(rotates q1 + q2)
    double damping1, damping2;
    double gain[2][2];            // generalised force of joint i per unit of action j
    double timestep;              // s
    long substeps;                // time steps in a control period
    long limited;                 // joint with limits, 0 or 1; -1: none
    double lower, upper;
    double stiffness, rate;       // of the reference acceleration: -rate v - stiffness d r
    double least, most, width;    // impedance d: from least at the limit to most at `width` beyond it
    double inverse_weight;        // MuJoCo's estimate of the joint's inverse inertia
    long euler;                   // 1: DART's integrator and limits instead
    double extra1, extra2;        // what implicit damping adds to the inertia of a joint
    double recovery;              // DART: share of what is beyond a limit that a step takes back
};

typedef double lanes[LANES];

// Adds what the limits of a joint at q do to its own acceleration and to the other joint's. The force f >= 0 away from
// the limit solves a + mobility f + R f = reference, R = (1 - d) / d times the inverse weight.
static inline void limit(const struct twin *p, const lanes q, const lanes v, const lanes mobility,
                         const lanes coupling, lanes own, lanes other)
{
    for (int k = 0; k < LANES; k++) {
        double below = q[k] - p->lower, above = p->upper - q[k];
        double side = below < above ? 1.0 : -1.0;
        double distance = below < above ? below : above;
        double x = -distance / p->width;
        x = x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
        double y = x <= 0.5 ? 2.0 * x * x : 1.0 - 2.0 * (1.0 - x) * (1.0 - x);
        double d = p->least + y * (p->most - p->least);
        double reference = -p->rate * side * v[k] - p->stiffness * d * distance;
        double lacking = reference - side * own[k];
        double force = lacking / (mobility[k] + (1.0 - d) / d * p->inverse_weight);
        force = distance < 0.0 && lacking > 0.0 ? side * force : 0.0;
        own[k] += mobility[k] * force;
        other[k] += coupling[k] * force;
    }
}

static inline void acceleration(const struct twin *p, const lanes q1, const lanes q2, const lanes v1, const lanes v2,
                                const lanes f1, const lanes f2, lanes out1, lanes out2, lanes mobility,
                                lanes coupling)
{
    lanes sine, cosine, sine1, sine12;
    // Separate loops: gcc would otherwise merge sine and cosine into one call that it cannot vectorise.
    for (int k = 0; k < LANES; k++) sine[k] = sin(q2[k]);
    for (int k = 0; k < LANES; k++) cosine[k] = cos(q2[k]);
    if (p->g1 != 0.0 || p->g2 != 0.0) {
        for (int k = 0; k < LANES; k++) sine1[k] = sin(q1[k]);
        for (int k = 0; k < LANES; k++) sine12[k] = sin(p->rotates * q1[k] + q2[k]);
    } else {
        for (int k = 0; k < LANES; k++) sine1[k] = sine12[k] = 0.0;
    }
    for (int k = 0; k < LANES; k++) {
        double h = p->b1 * sine[k];
        double fall = p->g2 * sine12[k];
        double r1 = f1[k] - p->damping1 * v1[k] + h * v2[k] * (2.0 * p->rotates * v1[k] + v2[k])
                    - p->rotates * fall - p->g1 * sine1[k];
        double r2 = f2[k] - p->damping2 * v2[k] - p->rotates * h * v1[k] * v1[k] - fall;
        double m11 = p->a0 + p->a1 * cosine[k] + p->extra1, m12 = p->b0 + p->b1 * cosine[k], m22 = p->d0 + p->extra2;
        double inverse = 1.0 / (m11 * m22 - m12 * m12);
        out1[k] = (m22 * r1 - m12 * r2) * inverse;
        out2[k] = (m11 * r2 - m12 * r1) * inverse;
        // Impulses know nothing of implicit damping.
        mobility[k] = (p->limited ? m11 - p->extra1 : m22 - p->extra2) * inverse;
        coupling[k] = -m12 * inverse;
    }
    if (p->limited == 0 && !p->euler) limit(p, q1, v1, mobility, coupling, out1, out2);
    if (p->limited == 1 && !p->euler) limit(p, q2, v2, mobility, coupling, out2, out1);
}

// DART's constraint of a joint limit (JointConstraint): the velocity after the step may not carry the joint past the
// limit, and takes back a share of what it is beyond it; the impulse acts on the other joint, too.
static inline void stop(const struct twin *p, const lanes q, const lanes mobility, const lanes coupling, lanes own,
                        lanes other)
{
    for (int k = 0; k < LANES; k++) {
        double below = p->lower - q[k], above = p->upper - q[k];
        double least = (below > 0.0 ? p->recovery * below : below) / p->timestep;
        double most = (above < 0.0 ? p->recovery * above : above) / p->timestep;
        double change = own[k] < least ? least - own[k] : own[k] > most ? most - own[k] : 0.0;
        own[k] += change;
        other[k] += coupling[k] / mobility[k] * change;
    }
}

static inline void euler(const struct twin *p, lanes q1, lanes q2, lanes v1, lanes v2, const lanes f1, const lanes f2)
{
    lanes a1, a2, mobility, coupling;
    acceleration(p, q1, q2, v1, v2, f1, f2, a1, a2, mobility, coupling);
    for (int k = 0; k < LANES; k++) { v1[k] += p->timestep * a1[k]; v2[k] += p->timestep * a2[k]; }
    if (p->limited == 0) stop(p, q1, mobility, coupling, v1, v2);
    if (p->limited == 1) stop(p, q2, mobility, coupling, v2, v1);
    for (int k = 0; k < LANES; k++) { q1[k] += p->timestep * v1[k]; q2[k] += p->timestep * v2[k]; }
}

static inline void advance(const struct twin *p, lanes q1, lanes q2, lanes v1, lanes v2, const lanes f1, const lanes f2)
{
    static const double share[3] = {0.5, 0.5, 1.0}, weight[4] = {1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0};
    lanes x1, x2, y1, y2, a1, a2, sx1, sx2, sy1, sy2, mobility, coupling;
    for (int k = 0; k < LANES; k++) {
        x1[k] = q1[k]; x2[k] = q2[k]; y1[k] = v1[k]; y2[k] = v2[k];
        sx1[k] = sx2[k] = sy1[k] = sy2[k] = 0.0;
    }
    for (int stage = 0; stage < 4; stage++) {
        acceleration(p, x1, x2, y1, y2, f1, f2, a1, a2, mobility, coupling);
        double w = weight[stage] * p->timestep;
        for (int k = 0; k < LANES; k++) {
            sx1[k] += w * y1[k]; sx2[k] += w * y2[k]; sy1[k] += w * a1[k]; sy2[k] += w * a2[k];
        }
        if (stage == 3) break;
        double h = share[stage] * p->timestep;
        for (int k = 0; k < LANES; k++) {
            x1[k] = q1[k] + h * y1[k]; x2[k] = q2[k] + h * y2[k];
            y1[k] = v1[k] + h * a1[k]; y2[k] = v2[k] + h * a2[k];
        }
    }
    for (int k = 0; k < LANES; k++) {
        q1[k] += sx1[k]; q2[k] += sx2[k]; v1[k] += sy1[k]; v2[k] += sy2[k];
    }
}

// states [count, horizon + 1, 4] (q1, q2, v1, v2), row 0 given; actions [count, horizon, size], size 1 or 2.
void twin_rollout(const struct twin *p, long count, long horizon, long size, const float *actions, double *states)
{
    for (long first = 0; first < count; first += LANES) {
        long used = count - first < LANES ? count - first : LANES;
        lanes q1, q2, v1, v2, f1, f2;
        for (int k = 0; k < LANES; k++) {
            const double *start = states + (first + (k < used ? k : 0)) * (horizon + 1) * 4;
            q1[k] = start[0]; q2[k] = start[1]; v1[k] = start[2]; v2[k] = start[3];
        }
        for (long step = 0; step < horizon; step++) {
            for (int k = 0; k < LANES; k++) {
                const float *action = actions + ((first + (k < used ? k : 0)) * horizon + step) * size;
                double u1 = action[0], u2 = size > 1 ? action[1] : 0.0;
                f1[k] = p->gain[0][0] * u1 + p->gain[0][1] * u2;
                f2[k] = p->gain[1][0] * u1 + p->gain[1][1] * u2;
            }
            for (long substep = 0; substep < p->substeps; substep++) {
                if (p->euler) euler(p, q1, q2, v1, v2, f1, f2);
                else advance(p, q1, q2, v1, v2, f1, f2);
            }
            for (int k = 0; k < used; k++) {
                double *next = states + ((first + k) * (horizon + 1) + step + 1) * 4;
                next[0] = q1[k]; next[1] = q2[k]; next[2] = v1[k]; next[3] = v2[k];
            }
        }
    }
}
