"""What races: plain training, its usual rivals, and every form of the resolvent, on an MLP or a small CNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tithe.audit.training.batches import Choice
from tithe.audit.training.race import Inputs
from tithe.audit.training.stacks import StackedCNN, StackedMLP
from tithe.errors import InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import FrontEnd, PatchFrontEnd, Regularizer, apply, dataset_coherences

__all__ = ["RECIPES", "Field", "Net", "Recipe", "field", "gradient_change", "penalty", "recipe"]

Net = Literal["mlp", "cnn"]
Front = Literal["pixels", "dct", "pca", "patches"]

_LEAST_SPREAD = 0.05  # of a pixel from 0 to 1: what hardly ever changes is not blown up
# The front ends' sizes, chosen on held-out training images of Fashion-MNIST.
_PATCH, _STRIDE, _COEFFICIENTS, _WHITEN = 4, 2, 8, 0.5


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes:
        name: for tables.
        nets: which of the two it is for.
        front: what the first layer sees.
        keep: share of the inputs that a front end of cosine or principal components keeps.
        cosine: whether the rate follows a cosine, with a horizon that is tuned.
        tau: time constant of the averaged weights; 0 for none.
        power: of the resolvent on gradients, along the kernels of convolutions or, where an MLP sees pixels, the image
            axes of its first layer; 0 for none.
        phi: of that resolvent.
        strength: of the resolvent penalty on what the first layer puts out; 0 for none.
        decays: weight decays to choose from.
        choice: of the samples, see ``batches``.
    """

    name: str
    nets: tuple[Net, ...] = ("mlp", "cnn")
    front: Front = "pixels"
    keep: float = 0.2
    cosine: bool = False
    tau: float = 0.0
    power: float = 0.0
    phi: float = PHI
    strength: float = 0.0
    decays: tuple[float, ...] = (0.0,)
    choice: Choice = "shuffled"


_TAU = 100.0  # steps; the default of TrajectoryFilter
_GOLDEN_TAU = (1 + (1 + 4 * PHI) ** 0.5) / 2  # τ(τ − 1) = φ
RECIPES = (
    Recipe("constant rate"),
    Recipe("cosine", cosine=True),
    Recipe("weight decay", decays=(0.03, 0.3, 3.0)),
    Recipe("penalty (R1)", strength=1e-4),
    Recipe("damped gradients (R2)", power=1.0),
    Recipe("whitened gradients", power=-1.0),
    Recipe("cosine, whitened gradients", cosine=True, power=-1.0),
    Recipe("averaged, golden φ", tau=_GOLDEN_TAU),
    Recipe("averaged, τ = 10", tau=10.0),
    Recipe("averaged", tau=_TAU),
    Recipe("averaged, τ = 1000", tau=1000.0),
    Recipe("whitened, averaged, φ = 0.3", tau=_TAU, power=-1.0, phi=0.3),
    Recipe("whitened, averaged", tau=_TAU, power=-1.0),
    Recipe("whitened, averaged, φ = 10", tau=_TAU, power=-1.0, phi=10.0),
    Recipe("random skipping (R4)", choice="skipping"),
    Recipe("selective (R4)", choice="selective"),
    Recipe("batches of alike coherence (R4)", choice="alike"),
    Recipe("batches of mixed coherence (R4)", choice="mixed"),
    Recipe("front end", nets=("mlp",), front="dct"),
    Recipe("front end", nets=("cnn",), front="patches"),
    Recipe("front end, averaged", nets=("cnn",), front="patches", tau=_TAU),
    Recipe("PCA front end, averaged", nets=("mlp",), front="pca", tau=_TAU),
    Recipe("front end of 38 %, averaged", nets=("mlp",), front="dct", keep=0.38, tau=_TAU),
    Recipe("PCA of 38 %, averaged", nets=("mlp",), front="pca", keep=0.38, tau=_TAU),
    # One recipe: an MLP has no kernels to whiten, and its coefficients have no order.
    Recipe("full stack", nets=("mlp",), front="dct", tau=_TAU, power=-1.0),
    Recipe("full stack", nets=("cnn",), front="patches", tau=_TAU, power=-1.0),
)


@dataclass(frozen=True)
class Field:
    """Where a recipe races.

    Attributes:
        inputs: what the networks see.
        make: a stack of networks from their seeds.
        multiply_adds: of a forward pass for one sample, the front end's included.
        training_multiply_adds: of a training step for one sample, likewise.
        grid: how the inputs of the first layer lie, (H, W), for filters of its gradients.
    """

    inputs: Inputs
    make: Callable[[Sequence[int]], nn.Module]
    multiply_adds: int
    training_multiply_adds: int
    grid: tuple[int, int]


def recipe(name: str, net: Net) -> Recipe:
    """The recipe of that name for a network. Raises ``InvalidValueError`` where there is none. O(recipes).

    >>> recipe("front end", "cnn").front
    'patches'
    """
    found = [one for one in RECIPES if one.name == name and net in one.nets]
    if not found:
        names = ", ".join(repr(one.name) for one in RECIPES if net in one.nets)
        raise InvalidValueError(f"there is no recipe {name!r} for {net!r}; use one of {names}")
    return found[0]


def field(
    one: Recipe,
    net: Net,
    train: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    device: str,
) -> Field:
    """Images as a recipe's networks see them, and the networks.

    Pixels are standardised one by one with means and standard deviations of the training images, in every recipe.

    Args:
        one: the recipe.
        net: which network: 784 → 128 → 64 → 10, or convolutions of 16 and 32 channels and a layer of 64 units. With
            patches, their coefficients replace the first convolution, and the second has 48 channels.
        train: images (n, H, W) and classes (n,).
        test: likewise.
        device: of torch.
    """
    (train_x, train_y), (test_x, test_y) = ((torch.as_tensor(x), torch.as_tensor(y)) for x, y in (train, test))
    top = float(train_x.max())
    images, others = (x.float() / top for x in (train_x, test_x))
    if one.front == "pixels":
        mean, spread = images.mean(0), images.std(0).clamp(min=_LEAST_SPREAD)
        seen = [(x - mean) / spread for x in (images, others)]
        seen, front = ([x.flatten(1) for x in seen] if net == "mlp" else [x[:, None] for x in seen]), 0
    elif one.front == "patches":
        patches = PatchFrontEnd.fit(images[:, None], patch=_PATCH, stride=_STRIDE, keep=_COEFFICIENTS, whiten=_WHITEN)
        seen, front = [patches(x[:, None]) for x in (images, others)], patches.multiply_adds
    else:
        coefficients = FrontEnd.fit(images, keep=one.keep, basis=one.front)
        seen, front = [coefficients(x) for x in (images, others)], coefficients.multiply_adds
    shape = tuple(seen[0].shape[1:])

    def make(seeds: Sequence[int]) -> StackedMLP | StackedCNN:
        if net == "mlp":
            return StackedMLP(seeds, (shape[0], 128, 64, 10))
        channels = (48,) if one.front == "patches" else (16, 32)
        return StackedCNN(seeds, (shape[0], shape[1], shape[2]), channels, 64, 10)

    one_network = make([0])
    costs = (one_network.multiply_adds + front, one_network.training_multiply_adds + front)
    ordered = one.choice in ("alike", "mixed")
    coherences = dataset_coherences(images, dims=(0, 1)) if ordered else torch.zeros(len(images))
    train_x, test_x, labels, test_labels = (x.to(device) for x in (*seen, train_y, test_y))
    inputs = Inputs(train_x, labels, test_x, test_labels, coherences)
    return Field(inputs, make, *costs, (images.shape[1], images.shape[2]))


def gradient_change(one: Recipe, net: Net, grid: tuple[int, int]) -> Callable[[nn.Module], None] | None:
    """The resolvent on the gradients that have ordered axes, norms kept; or None where there are none."""
    if not one.power or (net == "mlp" and one.front != "pixels"):
        return None

    @torch.no_grad()
    def change(stack: nn.Module) -> None:
        assert isinstance(stack, StackedMLP | StackedCNN)
        for weight in stack.weights[: stack.convolutions or 1]:
            gradient = weight.grad
            assert gradient is not None
            count, inputs, outputs = gradient.shape
            image = grid if net == "mlp" else (3, 3)
            shaped = gradient.reshape(count, inputs // (image[0] * image[1]), *image, outputs)
            new = apply(shaped, (2, 3), one.phi, one.power).reshape(gradient.shape)
            sizes = [x.flatten(1).norm(dim=1).clamp(min=1e-30) for x in (gradient, new)]
            gradient.copy_(new * (sizes[0] / sizes[1])[:, None, None])

    return change


def penalty(one: Recipe) -> Callable[[nn.Module, Tensor], Tensor] | None:
    """The source's penalty, in its energy form, on what the first layer puts out; or None."""
    if not one.strength:
        return None
    regularizer = Regularizer(one.strength)

    def added(stack: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(stack, StackedMLP | StackedCNN)
        return regularizer(stack.first(x).flatten(0, 1)) * len(x)

    return added
