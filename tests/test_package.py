"""What `import tithe` gives, and what it costs."""

import inspect
import subprocess
import sys
import types

import pytest

import tithe
import tithe.data
import tithe.meter
import tithe.product


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_tithe_loads_neither_torch_nor_numpy() -> None:
    assert (
        run("import sys, tithe; print([m for m in ('torch', 'numpy', 'numba', 'scipy') if m in sys.modules])") == "[]"
    )


@pytest.mark.parametrize("package", [tithe, tithe.product, tithe.meter, tithe.data, tithe.receipt, tithe.errors])
def test_public_names_exist_and_are_documented(package: types.ModuleType) -> None:
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{package.__name__}.{name}"


def test_every_public_name_is_listed_by_dir() -> None:
    assert set(tithe.__all__) <= set(dir(tithe))


def test_a_name_that_does_not_exist_is_an_attribute_error_that_helps() -> None:
    with pytest.raises(AttributeError, match="matmul"):
        tithe.matmull  # noqa: B018


def test_python_dash_m_is_the_command() -> None:
    assert run("import runpy, sys; sys.argv = ['tithe', '--version']; runpy.run_module('tithe', run_name='x')") == ""
    out = subprocess.run([sys.executable, "-m", "tithe", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == tithe.__version__


def test_the_signatures_that_others_rely_on() -> None:
    matmul = inspect.signature(tithe.matmul)
    assert list(matmul.parameters) == ["A", "B", "tol", "ratio", "method", "confidence", "generator", "gradients"]
    assert matmul.parameters["confidence"].default == 0.999
    certify = inspect.signature(tithe.product.certify)
    assert list(certify.parameters) == ["C", "A", "B", "confidence", "probes", "generator"]
    assert {"method", "spent", "plain", "bound", "tried"} <= set(tithe.Receipt.__dataclass_fields__)
    assert {"upper", "estimate", "confidence", "probes", "scope"} <= set(tithe.Bound.__dataclass_fields__)
