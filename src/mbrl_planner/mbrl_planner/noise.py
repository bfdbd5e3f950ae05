# SPDX-License-Identifier: Apache-2.0
"""Temporally correlated Gaussian noise whose marginal variance is one at every step, whatever the correlation."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Noise = NDArray[np.float32]


def coloured_noise(random: np.random.Generator, exponent: float, samples: int, horizon: int, size: int) -> Noise:
    """Gaussian noise [samples, horizon, size] whose power spectral density falls as 1 / frequency^exponent.

    0 is white, 1 pink, 2 red. Drawn in the frequency domain (Timmer and Koenig 1995) and transformed back; the spectrum
    is flat below the lowest frequency that the horizon holds, so that sequences differ in their mean too. Every
    entry has variance one exactly: Pinneri et al. 2020, "Sample-efficient Cross-Entropy Method for Real-time
    Planning", eq. 2.
    """
    if exponent == 0.0 or horizon == 1:
        return random.standard_normal((samples, horizon, size), dtype=np.float32)
    amplitude = _amplitudes(exponent, horizon)
    parts = random.standard_normal((samples, size, len(amplitude), 2), dtype=np.float32)
    parts *= amplitude[:, None]
    spectrum = parts.view(np.complex64)[..., 0]
    noise = np.fft.irfft(spectrum, n=horizon, axis=-1)
    return np.ascontiguousarray(noise.transpose(0, 2, 1), dtype=np.float32)


@lru_cache(maxsize=16)
def noise_covariance(exponent: float, horizon: int) -> NDArray[np.float64]:
    """Covariance [horizon, horizon] over time of what `coloured_noise` draws; ones on its diagonal. Read only."""
    if exponent == 0.0 or horizon == 1:
        covariance = np.eye(horizon)
    else:
        amplitude = _amplitudes(exponent, horizon).astype(np.float64)
        # The map from independent standard normal numbers to the noise, one row each.
        rows = np.concatenate([np.diag(amplitude), 1j * np.diag(amplitude)])
        effect = np.fft.irfft(rows, n=horizon, axis=-1)
        covariance = effect.T @ effect
    covariance.flags.writeable = False
    return covariance


@lru_cache(maxsize=16)
def _amplitudes(exponent: float, horizon: int) -> NDArray[np.float32]:
    """Scale of each frequency, such that the inverse transform has variance one.

    irfft adds 2 Re(S_k exp(i w t)) / n for inner frequencies and Re(S_k) / n for the zero and the Nyquist
    frequency; with independent standard normal parts an inner one thus contributes 4 a_k^2 / n^2 and an outer
    one a_k^2 / n^2.
    """
    frequency = np.fft.rfftfreq(horizon)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-exponent / 2.0)
    outer = np.zeros(len(amplitude), dtype=bool)
    outer[0] = True
    outer[-1] |= horizon % 2 == 0
    # The outer ones have one random part instead of two.
    amplitude[outer] *= np.sqrt(2.0)
    variance = np.sum(np.where(outer, 1.0, 4.0) * amplitude**2) / horizon**2
    return (amplitude / np.sqrt(variance)).astype(np.float32)


def filtered_noise(random: np.random.Generator, weight: float, samples: int, horizon: int, size: int) -> Noise:
    """First-order filtered Gaussian noise [samples, horizon, size]: n_t = weight u_t + (1 - weight) n_{t-1}.

    Nagabandi et al. 2019 (PDDM), eq. 3, with u of variance (2 - weight) / weight and n_0 drawn from the stationary
    distribution, so that every entry has variance one; weight 1 is white noise.
    """
    noise = random.standard_normal((samples, horizon, size), dtype=np.float32)
    if weight == 1.0:
        return noise
    keep = np.float32(1.0 - weight)
    fresh = np.float32(np.sqrt(weight * (2.0 - weight)))
    for step in range(1, horizon):
        noise[:, step] *= fresh
        noise[:, step] += keep * noise[:, step - 1]
    return noise
