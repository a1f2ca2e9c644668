"""Triton kernels against plain torch: interpreted on the CPU in a process of their own, compiled on a GPU."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not made for this platform")

CHECK = """
import torch
from tithe.product.kernels import triton_passes as t
device = {device!r}
g = torch.Generator().manual_seed(0)
for rows, columns in ((1, 1), (33, 130), (64, 256), (200, 77)):
    for transposed in (False, True):
        X = torch.randn(columns, rows, generator=g).T if transposed else torch.randn(rows, columns, generator=g)
        shift, inverse = X.mean(1), 127 / X.abs().amax(1).clamp(min=1e-3) / 2
        expected = ((X - shift[:, None]) * inverse[:, None]).round().to(torch.int8)
        found = t.quantise(*(x.to(device) for x in (X, shift, inverse)), torch.int8).cpu()
        assert (found.int() - expected.int()).abs().max() <= {slack}, (rows, columns, transposed)
        sums = torch.randint(-10**6, 10**6, (rows, columns), dtype=torch.int32, generator=g)
        r, c = torch.rand(rows, generator=g), torch.rand(columns, generator=g)
        for plus in (None, (torch.randn(rows, generator=g), torch.randn(columns, generator=g))):
            want = sums * r[:, None] * c + (0 if plus is None else torch.outer(*plus))
            got = t.rescale(sums.to(device), r.to(device), c.to(device), plus and tuple(p.to(device) for p in plus))
            torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-2)
print("same")
"""


def test_interpreted() -> None:
    code = CHECK.format(device="cpu", slack=0)
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "same", run.stderr


@pytest.mark.gpu
def test_compiled() -> None:
    exec(CHECK.format(device="cuda", slack=1), {})  # a division by 127 may round the other way there
    torch.cuda.synchronize()
