"""Triton kernels for gradients against the plain filter: interpreted on the CPU, compiled on a GPU."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not made for this platform")

SAME = """
import torch
from torch import nn
from tithe.resolvent import GradientFilter, triton_gradients

def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def weights(shapes, dtype, memory, seed):
    found = [nn.Parameter(torch.zeros(*shape, dtype=dtype)) for shape in shapes]
    for number, weight in enumerate(found):
        weight.grad = noise(*weight.shape, seed=seed + number).to(dtype)
        if memory is not None:
            weight.grad = weight.grad.to(memory_format=memory)
    return found

many = [(64, 3, 3, 3), (8, 65, 3, 3), (5, 1, 3, 3), (1, 1, 3, 3)]  # the second is five tiles
largest = (400, 700, 3, 3) if {device!r} == "cuda" else (3, 2, 3, 3)  # more partial sums than are added at once
cases = [
    ([*many, largest], torch.float32, None, 1e-5), (many, torch.float32, torch.channels_last, 1e-5),
    (many, torch.float16, None, 1e-2), (many, torch.bfloat16, torch.channels_last, 2e-2),
    ([(6, 4, 7, 7), (3, 2, 7, 7)], torch.float32, None, 1e-5), ([(6, 4, 2, 3)], torch.float32, None, 1e-5),
    ([(4, 3, 3, 3, 3)], torch.float32, torch.channels_last_3d, 1e-5),
]
for shapes, dtype, memory, tolerance in cases:
    filtering = None
    for seed in (0, 100):  # the tables of the first serve the second
        ours, theirs = (weights(shapes, dtype, memory, seed) for _ in range(2))
        plain = GradientFilter(torch.optim.SGD(theirs, lr=0.1), power=-1)
        plain.filter()
        gradients = [weight.grad.to({device!r}) for weight in ours]
        if filtering is None:
            matrix = plain._matrix(tuple(shapes[0][2:]), 1, torch.float32, torch.device("cpu"))
            filtering = triton_gradients.Filtering(gradients, matrix.to({device!r}))
        assert filtering.suits(gradients)
        assert filtering(gradients) == []
        for weight, gradient in zip(theirs, gradients, strict=True):
            assert gradient.stride() == weight.grad.stride() and gradient.dtype == dtype
            torch.testing.assert_close(gradient.cpu().float(), weight.grad.float(), rtol=tolerance, atol=tolerance)
zeros = torch.zeros(4, 3, 3, 3, device={device!r})
twice = 2 * torch.eye(9, device={device!r})
odd = noise(4, 3, 3, 6, seed=0).to({device!r})[..., ::2]
before = odd.clone()
mixed = triton_gradients.Filtering([odd, zeros], twice)
assert mixed([odd, zeros])[0] is odd and torch.equal(odd, before)
assert not zeros.any() and not filtering.suits([zeros]) and mixed.suits([odd, zeros])
double = noise(4, 3, 3, 3, seed=0).double().to({device!r})
assert triton_gradients.Filtering([double], twice)([double])[0] is double
print("same")
"""


def test_interpreted() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    code = SAME.format(device="cpu")
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "same", run.stderr


@pytest.mark.gpu
def test_compiled() -> None:
    exec(SAME.format(device="cuda"), {})


@pytest.mark.gpu
def test_a_network_on_a_gpu() -> None:
    """What the kernels cannot take (float64, odd strides, large grids) is filtered beside what they can."""
    import torch
    from torch import nn

    from tithe.resolvent import GradientFilter

    def network(device: str) -> nn.Sequential:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 11), nn.Conv2d(8, 4, 3).double(), nn.Conv2d(4, 4, 3)]
        return nn.Sequential(*layers).to(device)

    models = [network(device) for device in ("cpu", "cuda")]
    for model in models:
        for number, weight in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            gradient = torch.randn(weight.shape, dtype=weight.dtype, generator=generator).to(weight.device)
            weight.grad = gradient.transpose(2, 3) if number == 6 else gradient
        filtered = GradientFilter(torch.optim.SGD(model.parameters(), lr=0.1), power=-1)
        filtered.filter()
        filtered.filter()
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.cpu(), rtol=1e-4, atol=1e-4)
