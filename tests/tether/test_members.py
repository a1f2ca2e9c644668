"""``Separate`` and ``Stacked`` are one contract: the same losses and weights, whatever the model and the optimiser."""

import copy
import functools
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.members import Separate, Stacked, tensors_of
from tithe.tether.parametrization import attach, detach
from tithe.tether.stacked_losses import at_once

KINDS = [Separate, Stacked]
COUNT = 3
cross_entropy = nn.functional.cross_entropy
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "sgd, dampened": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "sgd, plain": lambda p: torch.optim.SGD(p, lr=0.05),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "matrices decay": lambda p: torch.optim.AdamW(
        [{"params": [x for x in p if x.ndim > 1]}, {"params": [x for x in p if x.ndim < 2], "weight_decay": 0.0}],
        lr=0.02, weight_decay=0.9,
    ),
} | {
    name.lower(): lambda p, name=name: getattr(torch.optim, name)(p, lr=0.01)
    for name in ("ASGD", "Adadelta", "Adagrad", "Adamax", "NAdam", "RAdam", "Rprop")
}  # fmt: skip


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.inner(self.embedding(x)).tanh())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(1, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.inner(x[..., None])[0][:, -1])


class Scaled(nn.Module):
    """With attributes that torch knows nothing of."""

    def __init__(self, scale=1.0, function=torch.tanh):
        super().__init__()
        self.inner, self._scale, self.function = nn.Linear(4, 3), scale, function

    def forward(self, x):
        return self.function(self.inner(x)) * self._scale


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def normed():  # no bias before a norm: its gradient is 0 but for rounding, which Adam blows up
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def convolutions():
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


def tethered(trainable=False, make=mlp):
    model = make()
    attach(model, init="uniform", trainable=trainable)
    return model


def frozen():
    model = mlp()
    model[0].requires_grad_(False)
    return model


def in_eval_mode():
    return normed().eval()


def partly_in_eval_mode():
    model = normed()
    model[1].eval()
    return model


def spectral():
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 3))


MODELS = {
    "mlp": mlp, "normed": normed, "convolutions": convolutions, "tied": Tied, "tethered": tethered,
    "trained tethers": lambda: tethered(True), "tethered and tied": lambda: tethered(make=Tied),
    "tethered and normed": lambda: tethered(make=normed), "frozen": frozen, "eval": in_eval_mode,
    "partly eval": partly_in_eval_mode, "attributes": Scaled,
}  # fmt: skip
NOT_VECTORISED = {"recurrent": Recurrent, "spectral": spectral}  # vmap has no rule for these


def built(make, count=COUNT, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [make() for _ in range(count)]


def inputs(model, size, generator):
    if any(isinstance(m, nn.Embedding) for m in model.modules()):
        return torch.randint(0, 7, (size,), generator=generator)
    shape = (1, 6, 6) if any(isinstance(m, nn.Conv2d) for m in model.modules()) else (4,)
    return torch.randn(size, *shape, generator=generator)


def batches(models, step, absent=False, uneven=False):
    found = []
    for member, model in enumerate(models):
        generator = torch.Generator().manual_seed(1000 * step + member)
        size = 8 - (member if uneven else 0)
        batch = inputs(model, size, generator), torch.randint(0, 3, (size,), generator=generator)
        found.append(None if absent and (3 * step + member) % 4 in (0, 2 * (step % 3 == 0)) else batch)
    return found


def trained(kind, make, optimizer, steps=None, **options):
    steps = steps or (11 if options else 20)
    models = built(make)
    members = kind(models, cross_entropy, optimizer)
    losses = [members.step(batches(models, step, **options)) for step in range(steps)]
    return members, losses


def assert_same(make, optimizer, tolerance=1e-4, **options):
    (one, ones), (other, others) = (trained(kind, make, optimizer, **options) for kind in KINDS)
    for a, b in zip(ones, others, strict=True):
        assert [x is None for x in a] == [x is None for x in b]
        assert [x for x in a if x is not None] == pytest.approx([x for x in b if x is not None], abs=tolerance)
    for member, (a, b) in enumerate(zip(one.models, other.models, strict=True)):
        torch.testing.assert_close(b.state_dict(), a.state_dict(), rtol=0, atol=tolerance)
        torch.testing.assert_close(other.moments(member), one.moments(member), rtol=1e-3, atol=tolerance)
    return one, ones


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("options", [{}, {"absent": True}, {"uneven": True}], ids=str)
def test_models(model, optimizer, options):
    one, losses = assert_same(MODELS[model], OPTIMIZERS[optimizer], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all of these can be vectorised
        trained(Stacked, MODELS[model], OPTIMIZERS[optimizer], steps=1)
    assert losses[0][1] not in (None, losses[-1][1])  # something was learned
    assert any(loss is None for step in losses for loss in step) == options.get("absent", False)
    assert not torch.equal(*(m.state_dict()[next(iter(m.state_dict()))] for m in one.models[:2]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"absent": True}, {"absent": True, "uneven": True}], ids=str)
def test_optimizers(optimizer, options):
    assert_same(mlp, OPTIMIZERS[optimizer], **options)


@pytest.mark.parametrize("model", NOT_VECTORISED)
def test_what_cannot_be_vectorised_runs_one_by_one(model):
    with pytest.warns(RuntimeWarning, match="one by one") as caught:
        assert_same(NOT_VECTORISED[model], OPTIMIZERS["adam"])
    assert len(caught) == 1  # in 20 steps


@pytest.mark.parametrize("optimizer", ["sgd, dampened", "adam", "nadam", "rprop"])
def test_members_that_begin_late_are_like_new(optimizer):
    """The second has nothing to do at first, and all step together in the end."""
    found = []
    for kind in KINDS:
        models = built(normed)
        members = kind(models, cross_entropy, OPTIMIZERS[optimizer])
        for step in range(12):
            given = batches(models, step)
            members.step([batch if step not in absent else None for batch, absent in zip(
                given, ({6, 7, 8}, {0, 1, 2}, {3, 4, 5}), strict=True)])  # fmt: skip
            if step == 2:
                assert members.moments(1) == {}
            if kind is Stacked:  # of one number of steps again, one optimiser's step is enough
                assert (members._optimizer._rows is None) == (step > 8)
        found.append(([m.state_dict() for m in models], members.moments(1)))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_absent_members_stay_as_they_are(kind):
    members, _ = trained(kind, normed, OPTIMIZERS["adamw"], steps=3)
    before = [copy.deepcopy(m.state_dict()) for m in members.models]
    moments = {name: value.clone() for name, value in members.moments(1).items()}
    batch = batches(members.models, 9)
    assert members.step([batch[0], None, batch[2]])[1] is None
    assert all(torch.equal(before[1][name], value) for name, value in members.models[1].state_dict().items())
    assert moments and all(torch.equal(moments[name], value) for name, value in members.moments(1).items())
    assert not torch.equal(before[0]["0.weight"], members.models[0][0].weight)
    assert members.step([None] * 3) == [None] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_models_have_the_weights_of_now(kind):
    models = built(mlp)
    members = kind(models, cross_entropy, OPTIMIZERS["sgd"])
    assert all(a is b for a, b in zip(members.models, models, strict=True))
    for step in range(3):
        given = batches(models, step)
        expected = [float(cross_entropy(model(x).detach(), y)) for model, (x, y) in zip(models, given, strict=True)]
        assert members.step(given) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["load_state_dict", "copy", "fill"])
def test_weights_may_be_changed_in_place(kind, how):
    members, _ = trained(kind, normed, OPTIMIZERS["sgd, plain"], steps=2)
    other = built(normed, 1, seed=5)[0]
    target = members.models[1]
    untouched = members.models[2][0].weight.detach().clone()
    if how == "load_state_dict":
        target.load_state_dict(other.state_dict())
    elif how == "copy":
        with torch.no_grad():
            for tensor, source in zip(tensors_of(target).values(), tensors_of(other).values(), strict=True):
                tensor.copy_(source)
    else:
        nn.init.zeros_(target[0].weight)
        nn.init.zeros_(other[0].weight)
        other.load_state_dict(target.state_dict())
    given = batches(members.models, 7)
    expected = float(cross_entropy(copy.deepcopy(other)(given[1][0]), given[1][1]).detach())
    assert members.step(given)[1] == pytest.approx(expected, abs=1e-6)
    assert not torch.equal(untouched, members.models[2][0].weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", ["all", "some"])
def test_moments_are_live(kind, after):
    members, _ = trained(kind, mlp, OPTIMIZERS["sgd"], steps=2)
    if after == "some":
        members.step([None, *batches(members.models, 5)[1:]])
    names = set(members.moments(1))
    assert names == {f"{name}/momentum_buffer" for name, _ in members.models[1].named_parameters()}
    twins = copy.deepcopy([m.state_dict() for m in members.models])
    moments = {name: value.clone() for name, value in members.moments(1).items()}
    for value in members.moments(1).values():
        value.add_(1)
    members.step(batches(members.models, 6))
    changed = members.models[1][0].weight.detach().clone()
    for model, state in zip(members.models, twins, strict=True):
        model.load_state_dict(state)
    for name, value in members.moments(1).items():
        value.copy_(moments[name])
    members.step(batches(members.models, 6))
    # A momentum that is larger by 1 makes the step larger by rate · momentum.
    torch.testing.assert_close(members.models[1][0].weight - changed, torch.full((6, 4), 0.05 * 0.9), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_has_other_masks_for_each_member(kind):
    def make():
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1000, 1, bias=False))
        nn.init.uniform_(model[1].weight, 0.5, 1.5)  # no two masks have the same sum
        return model

    members = kind(built(make), lambda out, y: out.mean(), OPTIMIZERS["sgd, plain"])
    batch = torch.ones(1, 1000), torch.zeros(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses = members.step([batch] * COUNT) + members.step([batch, None, batch])
        for model in members.models:
            model.eval()
        still = members.step([batch] * COUNT)
    assert len({loss for loss in losses if loss is not None}) == 5
    assert all(850 < loss < 1150 for loss in losses[:3])
    expected = [float(model[1].weight.detach().sum()) + 0.05 * 1000 for model in members.models]
    assert still == pytest.approx(expected, rel=1e-3)


def test_modes_may_change_and_differ():
    found = []
    for kind in KINDS:
        models = built(normed)
        members = kind(models, cross_entropy, OPTIMIZERS["sgd"])
        for step, mode in enumerate([(1, 1, 1), (0, 0, 0), (1, 0, 1), (1, 1, 1)]):
            for model, training in zip(models, mode, strict=True):
                model.train(bool(training))
            members.step(batches(models, step))
        found.append([model.state_dict() for model in models])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)
    assert [int(state["1.num_batches_tracked"]) for state in found[1]] == [3, 2, 3]


def test_freezing_later():
    found = []
    for kind in KINDS:
        members, _ = trained(kind, mlp, OPTIMIZERS["sgd, plain"], steps=2)
        for model in members.models:
            model[0].requires_grad_(False)
        kept = members.models[1][0].weight.clone()
        members.step(batches(members.models, 3))
        assert torch.equal(kept, members.models[1][0].weight)
        found.append(members)
    torch.testing.assert_close(found[1].models[0].state_dict(), found[0].models[0].state_dict())
    found[1].models[1][0].requires_grad_(True)
    with pytest.raises(InvalidStateError, match=r"0\.weight is frozen in some"):
        found[1].step(batches(found[1].models, 4))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True),
        lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(6, 4))),
        lambda model: attach(model),
        lambda model: delattr(model[0], "bias"),
    ],
    ids=["dtype", "assigned", "replaced", "tethered", "removed"],
)
def test_a_member_that_was_cut_off_is_noticed(change):
    members, _ = trained(Stacked, mlp, OPTIMIZERS["sgd"], steps=1)
    change(members.models[1])
    with pytest.raises(InvalidStateError, match="member 1 was moved or replaced"):
        members.step(batches(built(mlp), 1))


def test_copies_of_members_are_plain_models():
    members, _ = trained(Stacked, tethered, OPTIMIZERS["sgd"], steps=2)
    twin = copy.deepcopy(members.models[1])
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    members.step(batches(members.models, 3))
    assert all(torch.equal(before[name], tensor) for name, tensor in twin.state_dict().items())
    plain = detach(copy.deepcopy(members.models[0]))
    torch.testing.assert_close(plain(torch.ones(1, 4)), members.models[0](torch.ones(1, 4)))
    members.step(batches(members.models, 4))


def test_a_member_that_diverges_does_so_alone():
    members, _ = trained(Stacked, normed, OPTIMIZERS["adam"], steps=1)
    given = batches(members.models, 1)
    given[1] = (given[1][0] * float("nan"), given[1][1])
    losses = members.step(given)
    assert losses[1] != losses[1] and losses[0] == losses[0]
    assert members.models[1][0].weight.isnan().all()
    assert all(tensor.isfinite().all() for i in (0, 2) for tensor in members.models[i].state_dict().values())


def test_one_member_and_inputs_that_are_no_tensors():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return self.inner(x["a"] + x["b"])

    found = []
    for kind in KINDS:
        models = built(Sum, 1)
        members = kind(models, cross_entropy, OPTIMIZERS["adam"])
        for step in range(3):
            members.step([({"a": torch.ones(2, 4), "b": torch.ones(2, 4) * step}, torch.tensor([0, 1]))])
        found.append(models[0].state_dict())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("kind", KINDS)
def test_steps_that_cannot_be_taken(kind):
    models = built(mlp)
    members = kind(models, cross_entropy, OPTIMIZERS["sgd"])
    before = copy.deepcopy([m.state_dict() for m in models])
    with pytest.raises(InvalidValueError, match="2 batches for 3 members"):
        members.step(batches(models, 0)[:2])
    with pytest.raises(InvalidValueError, match="4 batches for 3 members"):
        members.step([*batches(models, 0), None])
    torch.testing.assert_close([m.state_dict() for m in models], before, rtol=0, atol=0)
    for uneven in (False, True):
        each = kind(built(mlp), functools.partial(cross_entropy, reduction="none"), OPTIMIZERS["sgd"])
        with pytest.raises(InvalidValueError, match="must be a scalar"):
            each.step(batches(models, 0, uneven=uneven))
    with pytest.raises(InvalidValueError):
        kind([], cross_entropy, OPTIMIZERS["sgd"])


def test_errors_of_the_model_are_its_own():
    members = Stacked(built(mlp), cross_entropy, OPTIMIZERS["sgd"])
    bad = [(torch.ones(2, 5), torch.zeros(2).long())] * 3
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="shapes"):
        warnings.simplefilter("error")
        members.step(bad)
    members.step(batches(members.models, 0))
    assert members.vectorised


class Subclassed(torch.optim.Adam):
    """Might do anything."""


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (lambda p: torch.optim.LBFGS(p), "LBFGS"),
        (lambda p: torch.optim.Adafactor(p), "Adafactor"),
        (lambda p: torch.optim.Muon([x for x in p if x.ndim == 2]), "Muon"),
        (lambda p: Subclassed(p), "Subclassed"),
        (lambda p: torch.optim.SGD([*p, nn.Parameter(torch.ones(1))], lr=0.1), "not the model's"),
    ],
)
def test_optimizers_that_cannot_be_stacked(optimizer, name):
    models = built(mlp)
    storages = [p.untyped_storage().data_ptr() for model in models for p in model.parameters()]
    with pytest.raises(InvalidValueError, match=name):
        Stacked(models, cross_entropy, optimizer)
    assert [p.untyped_storage().data_ptr() for model in models for p in model.parameters()] == storages


def test_separate_members_take_any_optimizer():
    models = built(mlp)
    members = Separate(models, cross_entropy, lambda p: torch.optim.LBFGS(p, max_iter=3))
    given = batches(models, 0)
    losses = [members.step(given) for _ in range(4)]
    assert all(later < 0.9 * first for first, later in zip(losses[0], losses[-1], strict=True))
    different = [*built(mlp, 1), *built(normed, 1), nn.Linear(4, 3)]
    assert len(Separate(different, cross_entropy, OPTIMIZERS["sgd"]).step(batches(different, 0))) == 3


def shared_weight():
    first, second = built(mlp, 2)
    second[0].weight = first[0].weight
    return [first, second]


def times(number):
    return lambda x: number * x


def half_frozen():
    models = built(mlp, 2)
    models[1][0].weight.requires_grad_(False)
    return models


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (list, "there are none"),
        (lambda: [mlp(), nn.Linear(4, 3)], "another architecture"),
        (lambda: [nn.Linear(4, 3), nn.Linear(4, 3, bias=False)], "another architecture"),
        (lambda: [nn.Linear(4, 3), nn.Linear(4, 3).double()], "dtype"),
        (lambda: [nn.Dropout(0.1), nn.Dropout(0.2)], "another architecture"),
        (lambda: [normed(), in_eval_mode()], "training of a Sequential"),
        (lambda: [normed(), partly_in_eval_mode()], "training of a BatchNorm1d"),
        (lambda: [Scaled(), Scaled(2.0)], "_scale of a Scaled"),
        (lambda: [Scaled(), Scaled(function=torch.relu)], "function of a Scaled"),
        (lambda: [Scaled(function=lambda x: x), Scaled(function=lambda x: -x)], "function"),
        (lambda: [Scaled(torch.ones(3)), Scaled(torch.zeros(3))], "_scale"),
        (lambda: [Scaled({"a": [1, 2]}), Scaled({"a": [1, 3]})], "_scale"),
        (lambda: [Scaled(function=functools.partial(torch.mul, x)) for x in (1, 2)], "function"),
        (lambda: [Scaled(function=times(number)) for number in (1, 2)], "function"),
        (lambda: [tethered(), mlp()], "another architecture"),
        (shared_weight, "share 0.weight"),
        (half_frozen, "0.weight is frozen"),
        (lambda: [nn.LazyLinear(2), nn.LazyLinear(2)], "no shape yet"),
    ],
)
def test_models_that_cannot_be_stacked(make, why):
    models = make()
    assert why in Stacked.unfit(models)
    with pytest.raises(InvalidValueError, match="vectorised=False"):
        Stacked(models, cross_entropy, OPTIMIZERS["sgd"])


@pytest.mark.parametrize(
    "make",
    [*MODELS.values(), *NOT_VECTORISED.values(), lambda: Scaled(2.0, times(float("nan")))],
)
def test_models_of_one_kind_can(make):
    models = built(make)
    models[0](inputs(models[0], 3, None))
    assert Stacked.unfit(models) == ""


@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_of_a_stack_is_that_of_each(ignored):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(4, (3, 6), generator=generator)
    if ignored:
        targets[0, :2] = targets[2, 5] = -100
    for loss in (nn.functional.cross_entropy, nn.CrossEntropyLoss()):
        found = at_once(loss)(outputs, targets)
        each = torch.stack([loss(o, t) for o, t in zip(outputs, targets, strict=True)])
        torch.testing.assert_close(found, each)
        torch.testing.assert_close(*(torch.autograd.grad(x.sum(), outputs)[0] for x in (found, each)))


@pytest.mark.parametrize(
    "loss",
    [
        nn.functional.mse_loss, nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(ignore_index=0),
        nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss(torch.ones(4)),
    ],
)  # fmt: skip
def test_other_losses_are_not_taken_for_cross_entropy(loss):
    assert at_once(loss) is None


def test_other_forms_are_left_to_vmap():
    found = at_once(nn.functional.cross_entropy)
    assert found(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)) is None  # probabilities
    assert found(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 5, dtype=torch.int64)) is None
