"""Unitaries, gates and states of M7, and how far a state is from what it should be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["apply_gate", "cross_entropy", "embedded", "fidelities", "gate_share", "haar"]


def haar(n: int, generator: torch.Generator) -> Tensor:
    """A Haar-random unitary (n, n), complex64: the Q of a Gaussian matrix, with the phases of R's diagonal taken out.

    Source: Mezzadri 2007, Notices of the AMS 54(5).

    >>> U = haar(8, torch.Generator().manual_seed(0))
    >>> bool((U.mH @ U - torch.eye(8)).norm() < 1e-5)
    True
    """
    Q, R = torch.linalg.qr(torch.randn(n, n, dtype=torch.complex64, generator=generator, device=generator.device))
    unitary: Tensor = Q * R.diagonal().sgn()
    return unitary.contiguous()


def apply_gate(state: Tensor, gate: Tensor, first: int) -> Tensor:
    """A gate on k adjacent qubits applied to all columns of ``state``, by reshaping alone.

    Args:
        state: (2ⁿ, columns), complex.
        gate: (2ᵏ, 2ᵏ), of the same dtype.
        first: the first of its qubits, from 0, the most significant one.

    Returns:
        The states after it, (2ⁿ, columns): exact, for 2ᵏ⁺ⁿ multiply–adds a column where a product of matrices takes 4ⁿ.

    >>> flip = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex64)
    >>> apply_gate(torch.tensor([[1], [0], [0], [0]], dtype=torch.complex64), flip, 1).flatten().real
    tensor([0., 1., 0., 0.])
    """
    size, columns = state.shape
    moved = gate @ state.view(2**first, len(gate), -1)
    return moved.view(size, columns)


def embedded(gate: Tensor, first: int, qubits: int) -> Tensor:
    """The same gate as a matrix on all qubits, (2ⁿ, 2ⁿ): what a product of matrices needs."""
    before = torch.eye(2**first, dtype=gate.dtype, device=gate.device)
    after = torch.eye(2**qubits // (2**first * len(gate)), dtype=gate.dtype, device=gate.device)
    return torch.kron(torch.kron(before, gate), after)


def gate_share(k: int, qubits: int) -> float:
    """Multiply–adds of a k-qubit gate by reshaping, as a share of those of a product of 2ⁿ × 2ⁿ matrices.

    >>> gate_share(2, 10)
    0.00390625
    """
    return math.ldexp(1.0, k - qubits)


def fidelities(found: Tensor, truth: Tensor) -> Tensor:
    """|⟨ψ̂|ψ⟩|²/(‖ψ̂‖²‖ψ‖²) of each column, float64: 1 for the same state, whatever its phase and length.

    >>> psi = torch.tensor([[1.0 + 0j], [0.0]])
    >>> fidelities(-3j * psi, psi)
    tensor([1.], dtype=torch.float64)
    """
    found, truth = found.to(torch.complex128), truth.to(torch.complex128)
    overlap = (found.conj() * truth).sum(0).abs().square()
    return overlap / (_squares(found) * _squares(truth))


def cross_entropy(found: Tensor, truth: Tensor) -> Tensor:
    """2ⁿ·Σₓ p(x)·p̂(x) − 1 of each column, float64: the expected linear cross-entropy benchmark.

    Of a Haar-random state and itself it is 1 on average, ± 2/√2ⁿ; of one and noise it is 0.

    >>> psi = torch.tensor([[1.0 + 0j], [0.0]])
    >>> cross_entropy(psi, psi)
    tensor([1.], dtype=torch.float64)
    """
    p, q = (X.to(torch.complex128).abs().square() / _squares(X.to(torch.complex128)) for X in (truth, found))
    return len(truth) * (p * q).sum(0) - 1


def _squares(X: Tensor) -> Tensor:
    return X.abs().square().sum(0)
