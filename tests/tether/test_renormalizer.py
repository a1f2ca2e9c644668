"""Renewals touch what they say and nothing else, come when they should, and go on after a stop."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import InvalidValueError
from tithe.tether.chains import hidden_layers
from tithe.tether.growth import grow
from tithe.tether.parametrization import attach
from tithe.tether.renormalizer import Renormalizer
from tithe.tether.resets import dormant, least_important, restart, scale_back
from tithe.tether.scene import Scene, moments, spread
from tithe.tether.stall import Stall


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *[layer() if callable(layer) and not isinstance(layer, nn.Module) else layer for layer in layers]
        )


def perceptron():
    return network(lambda: nn.Linear(6, 20), nn.ReLU(), lambda: nn.Linear(20, 10), nn.ReLU(), lambda: nn.Linear(10, 3))


def convolutional():
    return network(
        lambda: nn.Conv2d(1, 10, 3), lambda: nn.BatchNorm2d(10), nn.ReLU(), lambda: nn.Conv2d(10, 20, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), lambda: nn.Linear(80, 3),
    )  # fmt: skip


MODELS = {"perceptron": (perceptron, (8, 6)), "convolutional": (convolutional, (8, 1, 8, 8))}


def train(model, optimizer, renormalizer, shape, steps, start=0):
    found = []
    for step in range(start, start + steps):
        optimizer.zero_grad()
        loss = (model(noise(*shape, seed=step)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        found.append(renormalizer.step(loss))
    return found


def scene_of(model, x, **settings):
    model.train()
    hidden = hidden_layers(model)
    scene = Scene(hidden, {}, {}, generator=torch.Generator().manual_seed(0), **settings)
    for name, layer in scene.layers().items():
        scene.initial |= {(name, part): spread(getattr(layer, part)) for part in ("weight", "bias")}
    read = {}
    hooks = [h.reader.register_forward_pre_hook(lambda _, i, h=h: read.update({h.name: i[0]})) for h in hidden]
    model(x)
    for hook in hooks:
        hook.remove()
    for h in hidden:
        scene.means[h.name], scene.activity[h.name] = h.activity(read[h.name].detach())
    return scene


class TestFollowing:
    def test_order_and_readers(self):
        found = [(h.name, h.nodes, len(h.norms), h.reader_name) for h in hidden_layers(convolutional())]
        assert found == [("0", 10, 1, "3"), ("3", 20, 0, "7")]

    def test_functions_are_followed_in_the_order_in_which_they_run(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.last, self.first = nn.Linear(8, 2), nn.Conv2d(1, 2, 3)

            def forward(self, x):
                return self.last(torch.flatten(nn.functional.max_pool2d(torch.relu(self.first(x)), 2), 1))

        assert [(h.name, h.reader_name) for h in hidden_layers(Net())] == [("first", "last")]

    @pytest.mark.parametrize(
        ("layers", "match"),
        [
            ((nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), r"through 1 \(LayerNorm\)"),
            ((nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2)), "Softmax"),
            ((nn.Linear(4, 6), nn.LSTM(6, 6), nn.Linear(6, 2)), "LSTM"),
            ((nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)), "put a Flatten"),
            ((nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "2 groups"),
            ((nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Linear(6, 2)), "remove this"),
        ],
    )
    def test_what_cannot_be_followed_is_named(self, layers, match):
        with pytest.raises(InvalidValueError, match=match):
            hidden_layers(nn.Sequential(*layers))

    def test_branches_and_shared_layers_are_refused_and_others_can_be_chosen(self):
        class Residual(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

            def forward(self, x):
                h = self.a(x)
                return self.d(h + self.c(self.b(h).relu()))

        with pytest.raises(InvalidValueError, match="a cannot be followed"):
            hidden_layers(Residual())
        assert [h.reader_name for h in hidden_layers(Residual(), ["b"])] == ["c"]
        layer = nn.Linear(4, 4)
        with pytest.raises(InvalidValueError, match="several places"):
            hidden_layers(nn.Sequential(layer, nn.ReLU(), layer))
        with pytest.raises(InvalidValueError, match="no layer is called 'e'"):
            hidden_layers(Residual(), ["e"])

    def test_control_flow_is_refused(self):
        class Fork(nn.Module):
            def forward(self, x):
                return x if x.sum() > 0 else -x

        with pytest.raises(InvalidValueError, match="Fork cannot be traced"):
            hidden_layers(Fork())


class TestRestarting:
    @pytest.mark.parametrize("kind", list(MODELS))
    def test_restarted_nodes_put_out_nothing_and_have_no_memory(self, kind):
        make, shape = MODELS[kind]
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(3):
            model(noise(*shape, seed=step)).square().mean().backward()
            optimizer.step()
        scene = scene_of(model, noise(*shape), optimizer=optimizer)
        hidden, nodes = scene.hidden[0], torch.tensor([1, 4])
        before = copy.deepcopy(model.state_dict())
        old_moments = {p: copy.deepcopy(state) for p, state in optimizer.state.items()}
        restart(scene, hidden, nodes)
        reader, stay = hidden.reader.weight.detach(), torch.tensor([i not in (1, 4) for i in range(hidden.nodes)])
        assert not reader[:, nodes].any()
        assert torch.equal(reader[:, stay], before[f"{hidden.reader_name}.weight"][:, stay])
        weight, old = hidden.layer.weight.detach(), before[f"{hidden.name}.weight"]
        assert torch.equal(weight[stay], old[stay]) and (weight[nodes] != old[nodes]).all()
        for parameter in (hidden.layer.weight, hidden.layer.bias):
            assert not optimizer.state[parameter]["exp_avg"][nodes].any()
            assert optimizer.state[parameter]["exp_avg"][stay].any()
            square = optimizer.state[parameter]["exp_avg_sq"]
            mean = old_moments[parameter]["exp_avg_sq"].mean()
            torch.testing.assert_close(square[nodes], mean.expand_as(square[nodes]))
            assert torch.equal(square[stay], old_moments[parameter]["exp_avg_sq"][stay])
        state = optimizer.state[hidden.reader.weight]
        assert len(moments(optimizer, hidden.reader.weight)) == 2
        assert not state["exp_avg"][:, nodes].any()
        torch.testing.assert_close(state["exp_avg_sq"][:, nodes].var(), torch.tensor(0.0))
        assert (state["exp_avg_sq"][:, nodes] > 0).all()
        for norm in hidden.norms:
            assert norm.weight[nodes].tolist() == norm.running_var[nodes].tolist() == [1, 1]
            assert norm.bias[nodes].tolist() == norm.running_mean[nodes].tolist() == [0, 0]
            assert not torch.equal(norm.running_var[stay], torch.ones(hidden.nodes - 2))

    @pytest.mark.parametrize(
        ("kind", "options"),
        [(torch.optim.Adam, {"betas": (0.9, 0.99)}), (torch.optim.RMSprop, {}), (torch.optim.Adagrad, {})],
    )
    def test_a_restarted_node_is_not_moved_faster_than_others(self, kind, options):
        model = perceptron()
        optimizer = kind(model.parameters(), lr=0.001, **options)

        def step(sign):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, sign)
            optimizer.step()

        for _ in range(300):
            step(-1.0)
            step(1.0)
        scene = scene_of(model, noise(50, 6), optimizer=optimizer)
        restart(scene, scene.hidden[0], torch.tensor([2]))
        before = model[0].weight.detach().clone()
        step(1.0)
        moved = (model[0].weight.detach() - before).abs().mean(1)
        assert moved[2] <= 1.2 * moved[3]

    def test_of_a_constant_node_nothing_is_missed(self):
        model = perceptron()
        with torch.no_grad():
            model[0].weight[3], model[0].bias[3] = 0, 2
        x = noise(50, 6)
        scene = scene_of(model, x)
        before = model(x)
        restart(scene, scene.hidden[0], torch.tensor([3]))
        torch.testing.assert_close(model(x), before)

    def test_least_is_by_activity_times_outgoing_weights(self):
        model = perceptron()
        scene = scene_of(model, noise(50, 6), share=0.1)
        with torch.no_grad():
            model[2].weight[:, 7] *= 1e-4
            scene.activity["0"][11] = 0
            scene.activity["0"][2] = math.nan
        assert {7, 11, 2} > set(least_important(scene, scene.hidden[0]).tolist())
        scene.share = 0.15
        assert least_important(scene, scene.hidden[0]).tolist() == [2, 7, 11]
        scene.anchors = {"0": torch.tensor([7])}
        assert 7 not in least_important(scene, scene.hidden[0]).tolist()

    def test_dormant_nodes_are_those_far_below_the_mean(self):
        scene = scene_of(perceptron(), noise(50, 6), threshold=0.5)
        scene.activity["2"] = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 0.5, 0.3, 0.0])
        assert dormant(scene, scene.hidden[1]).tolist() == [8, 9]

    @pytest.mark.parametrize("inputs", [6, 30])
    def test_orthogonal_rows(self, inputs):
        model = network(lambda: nn.Linear(inputs, 20), nn.ReLU(), lambda: nn.Linear(20, 3))
        scene = scene_of(model, noise(50, inputs), overlay="orthogonal")
        size = model[0].weight.detach().norm(dim=1).mean()
        nodes = torch.tensor([0, 5, 19])
        restart(scene, scene.hidden[0], nodes)
        weight = model[0].weight.detach()
        new, stay = weight[nodes], weight[[i for i in range(20) if i not in (0, 5, 19)]]
        gram = (new / new.norm(dim=1, keepdim=True)) @ (new / new.norm(dim=1, keepdim=True)).T
        torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)
        assert new.norm(dim=1) == pytest.approx(float(size), rel=0.6)
        if inputs == 30:
            torch.testing.assert_close(new @ stay.T, torch.zeros(3, 17), atol=1e-5, rtol=0)


class TestScaling:
    def test_larger_layers_return_to_their_norm_and_decisions_stay(self):
        model, x = perceptron(), noise(200, 6)
        scene = scene_of(model, x)
        norms = [model[i].weight.norm().item() for i in (0, 2, 4)]
        with torch.no_grad():
            model[0].weight *= 3
            model[4].weight *= 2
            model[2].weight *= 0.5
        before = model(x)
        scale_back(scene)
        found = [model[i].weight.norm().item() for i in (0, 2, 4)]
        assert found == pytest.approx([norms[0], norms[1] / 2, norms[2]], rel=1e-5)
        torch.testing.assert_close(model(x) * 6, before)

    def test_part_of_the_way_and_a_wider_limit(self):
        model = perceptron()
        scene = scene_of(model, noise(9, 6), norm=2.0, pull=0.5)
        norm = model[2].weight.norm().item()
        with torch.no_grad():
            model[2].weight *= 8
            model[4].weight *= 1.9
        last = model[4].weight.detach().clone()
        scale_back(scene)
        assert model[2].weight.norm().item() == pytest.approx(norm * 4, rel=1e-5)
        assert torch.equal(model[4].weight, last)

    def test_a_batch_norm_takes_the_factor_out(self):
        model, x = convolutional(), noise(20, 1, 8, 8)
        scene = scene_of(model, x)
        with torch.no_grad():
            model[0].weight *= 100
        before = model(x)
        scale_back(scene)
        torch.testing.assert_close(model(x), before, rtol=1e-2, atol=1e-3)  # eps of the BatchNorm


@pytest.mark.parametrize("policy", ["renormalise", "shrink-and-perturb", "dormant"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_anchored_nodes_are_not_touched(policy, kind):
    make, shape = MODELS[kind]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    first, second = hidden_layers(model)
    anchors = {first.name: [0, 3], second.name: torch.tensor([2])}
    draw = torch.Generator().manual_seed(0)
    renormalizer = Renormalizer(
        model, optimizer, policy=policy, every=1, share=0.5, threshold=1.0, anchors=anchors, generator=draw
    )
    with torch.no_grad():
        first.layer.weight *= 2
        second.reader.weight *= 2
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, renormalizer, shape, 5)
    now = model.state_dict()
    restarted = (
        now[f"{second.name}.weight"].flatten(2) if kind == "convolutional" else now[f"{second.name}.weight"][..., None]
    )
    for part in ("weight", "bias"):
        assert torch.equal(now[f"{first.name}.{part}"][[0, 3]], before[f"{first.name}.{part}"][[0, 3]])
        assert not torch.equal(now[f"{first.name}.{part}"], before[f"{first.name}.{part}"])
    assert torch.equal(now[f"{second.name}.bias"][2], before[f"{second.name}.bias"][2])
    assert torch.equal(now[f"{second.name}.weight"][:, [0, 3]], before[f"{second.name}.weight"][:, [0, 3]])
    assert torch.equal(
        second.outgoing(now[f"{second.reader_name}.weight"])[:, 2],
        second.outgoing(before[f"{second.reader_name}.weight"])[:, 2],
    )
    heard = restarted[2].sum(-1) != 0  # of the anchored node, all that is left is as it was
    old = (
        before[f"{second.name}.weight"].flatten(2)[2]
        if kind == "convolutional"
        else before[f"{second.name}.weight"][2, :, None]
    )
    assert torch.equal(restarted[2][heard], old[heard])


class TestSchedule:
    def test_it_renews_every_so_many_steps_and_tells(self):
        model, told = perceptron(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        renormalizer = Renormalizer(
            model, optimizer, every=4, share=0.2, before=lambda *x: told.append(x), after=told.append
        )
        found = train(model, optimizer, renormalizer, (8, 6), 9)
        assert [x.step for x in found if x] == [4, 8]
        assert {name: len(nodes) for name, nodes in found[3].nodes.items()} == {"0": 4, "2": 2}
        assert told == [(4, "schedule"), found[3], (8, "schedule"), found[7]]
        assert found[3].count == 6 and found[3].policy == "renormalise"

    def test_none_changes_nothing(self):
        plain, watched = perceptron(), perceptron()
        for model in (plain, watched):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            renormalizer = Renormalizer(model, optimizer, policy="none", every=1 if model is watched else 1000)
            found = train(model, optimizer, renormalizer, (8, 6), 3)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
        assert [x.count for x in found] == [0, 0, 0]

    def test_a_stall_by_its_slope(self):
        model = perceptron()
        renormalizer = Renormalizer(model, None, every=5, when=Stall(slope=0.01, dormant=None, rank=None))
        model(noise(8, 6))
        falling = [renormalizer.step(0.9**step) for step in range(20)]
        flat = [renormalizer.step(torch.tensor(0.5)) for step in range(15)]
        assert not any(falling)
        assert [x.reason for x in flat if x] == ["slope"] * 3  # the loss rose first, then stayed

    def test_a_stall_by_dormant_nodes_or_rank(self):
        for limits, expected in ((Stall(None, 0.5, None), "dormant"), (Stall(None, None, 0.5), "rank")):
            model, x = perceptron(), noise(20, 6)
            renormalizer = Renormalizer(model, None, every=2, stride=1, memory=0.0, when=limits)
            found = []
            for step in range(8):
                model(x)
                if step == 4:
                    with torch.no_grad():
                        model[0].weight[1:], model[0].bias[1:] = 0, -1
                        model[2].weight[1:], model[2].bias[1:] = 0, -1
                found.append(renormalizer.step())
            assert next(x.reason for x in found if x) == expected
            assert not any(found[:4])

    def test_evaluation_and_copies_are_not_counted(self):
        model = perceptron()
        renormalizer = Renormalizer(model, None, every=1, stride=1)
        copy.deepcopy(model)(noise(4, 6))
        model.eval()(noise(4, 6))
        assert renormalizer.step() is None  # nothing was seen
        model.train()(noise(4, 6))
        assert renormalizer.step() is not None
        renormalizer.remove()
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_grown_layers_and_tethered_weights(self):
        model = perceptron()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        renormalizer = Renormalizer(model, optimizer, every=2, share=0.2)
        train(model, optimizer, renormalizer, (8, 6), 2)
        grow(model, "0", 10, optimizer)
        found = train(model, optimizer, renormalizer, (8, 6), 6)
        assert len(found[-1].nodes["0"]) == 6
        model = perceptron()
        attach(model, init=0.5)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        (found,) = train(model, optimizer, Renormalizer(model, optimizer, every=1), (8, 6), 1)
        stay = [node for node in range(10) if node not in found.nodes["2"]]
        assert not model[2].weight[stay][:, list(found.nodes["0"])].any()


@pytest.mark.parametrize("policy", ["renormalise", "shrink-and-perturb", "dormant"])
def test_a_stop_and_a_start_make_no_difference(policy):
    def begin():
        model = perceptron()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        draw = torch.Generator().manual_seed(3)
        return model, optimizer, Renormalizer(model, optimizer, policy=policy, every=3, threshold=0.8, generator=draw)

    one, other = begin(), begin()
    train(*one, (8, 6), 11)
    train(*other, (8, 6), 7)
    again = begin()
    for new, old in zip(again, other, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    train(*again, (8, 6), 4, start=7)
    assert all(torch.equal(a, b) for a, b in zip(one[0].parameters(), again[0].parameters(), strict=True))
    assert one[2].renewals == again[2].renewals == 3


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0, 1),
    st.sampled_from(["initial", "orthogonal"]),
    st.lists(st.integers(0, 19), max_size=20),
    st.sampled_from(list(MODELS)),
)
def test_any_share_keeps_shapes_numbers_and_anchors(share, overlay, anchored, kind):
    make, shape = MODELS[kind]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    shapes = [p.shape for p in model.parameters()]
    name = hidden_layers(model)[-1].name
    size = hidden_layers(model)[-1].nodes
    anchors = {name: [node for node in anchored if node < size]}
    renormalizer = Renormalizer(model, optimizer, every=1, share=share, overlay=overlay, anchors=anchors)
    found = train(model, optimizer, renormalizer, shape, 2)
    assert [p.shape for p in model.parameters()] == shapes
    assert all(p.isfinite().all() for p in model.parameters())
    assert not set(found[-1].nodes[name]) & set(anchors[name])
    assert len(found[-1].nodes[name]) == min(
        max(1, round(share * size)) if share else 0, size - len(set(anchors[name]))
    )


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"policy": "other"}, "renormalise"), ({"every": 0}, "at least 1"), ({"stride": 0}, "at least 1"),
        ({"share": 1.5}, "from 0 to 1"), ({"share": math.nan}, "share is nan"), ({"overlay": "x"}, "orthogonal"),
        ({"when": "never"}, "'stall'"), ({"anchors": {"9": [1]}}, "hidden layers are 0, 2"),
        ({"anchors": {"0": [20]}}, "use 0 to 19"), ({"anchors": {"0": [-1]}}, "use 0 to 19"),
        ({"memory": -1}, "memory"),
    ],
)  # fmt: skip
def test_hostile_settings(wrong, match):
    model = perceptron()
    with pytest.raises(InvalidValueError, match=match):
        Renormalizer(model, None, **wrong)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_state_of_another_model_is_refused():
    one, other = Renormalizer(perceptron(), None), Renormalizer(convolutional(), None)
    with pytest.raises(InvalidValueError, match="another model"):
        one.load_state_dict(other.state_dict())
    with pytest.raises(InvalidValueError, match="no hidden layer"):
        Renormalizer(nn.Linear(2, 2), None)


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_on_cuda(name):
    """Each policy renews on the GPU; what it renews is drawn on the CPU, so that devices agree."""
    make, shape = MODELS[name]
    for policy in ("renormalise", "shrink-and-perturb", "dormant"):
        model = make().cuda()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        renormalizer = Renormalizer(model, optimizer, policy=policy, every=5)
        before = copy.deepcopy(model.state_dict())
        for step in range(12):
            optimizer.zero_grad()
            loss = (model(noise(*shape, seed=step).cuda()) - 1).square().mean()
            loss.backward()
            optimizer.step()
            renormalizer.step(loss)
        after = model.state_dict()
        assert all(
            tensor.isfinite().all() and tensor.is_cuda for tensor in after.values() if tensor.is_floating_point()
        )
        assert any(not torch.equal(before[key], after[key]) for key in after)
