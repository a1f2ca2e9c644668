"""A population that is loaded goes on bit for bit as the one that was saved, wherever it was, however it steps."""

import copy
import functools
import json

import pytest
import torch
from torch import nn

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.ledger import Ledger
from tithe.tether import Generations, MergePolicy, Plateau, Population
from tithe.tether.checkpoints import read_checkpoint, write_checkpoint
from tithe.tether.grouping import Grouping
from tithe.tether.watch import Watch

LOSS = nn.functional.cross_entropy
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "matrices decay": lambda p: torch.optim.AdamW(
        [{"params": [x for x in p if x.ndim > 1], "weight_decay": 0.1}, {"params": [x for x in p if x.ndim < 2]}],
        lr=0.01,
    ),
}
INTERVAL, STEPS = 10, 95
# The beginning; a probe; its end; an interval after merges; the last member probes again; it has joined others.
PLACES = (0, 7, 30, 37, 58, 83)


def network(seed=0, hidden=16):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 4))


TEACHER = network(seed=9).eval()


@functools.cache
def batches(step, absent=False):
    """For four members: two kinds of labels, and from step 45 on the last one has those of the first."""
    found = []
    for member in range(4):
        generator = torch.Generator().manual_seed(100 * step + member)
        x = torch.randn(16, 8, generator=generator)
        with torch.no_grad():
            y = TEACHER(x).argmax(1)
        shift = member > 1 and not (member == 3 and step > 44)
        found.append(None if absent and member == 1 and step % 7 == 3 else (x, (y + shift) % 4))
    return tuple(found)


def population(optimizer="adam", vectorised=True, policy=None, count=4, hidden=16, seed=0, **options):
    start = network(seed, hidden)
    policy = policy or MergePolicy(interval=INTERVAL, recheck=4)
    models = [copy.deepcopy(start) for _ in range(count)]
    return Population(models, LOSS, OPTIMIZERS[optimizer], policy, vectorised=vectorised, **options)


def same(a, b):
    """Equal bit by bit: structure, types, and tensors with NaN and −0 as any other pattern of bits."""
    if isinstance(a, torch.Tensor):
        bits = [x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
        return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(*bits)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def through_a_file(state, tmp_path):
    return read_checkpoint(write_checkpoint(tmp_path / "state.safetensors", state))


def in_memory(state, tmp_path):
    return state


def wrecked(state):
    """Whoever still looks into a state after this has NaN or false numbers."""
    if isinstance(state, torch.Tensor):
        state.fill_(torch.nan if state.is_floating_point() else 0)
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            wrecked(value)


def goes_on_alike(make, places, tmp_path, way=through_a_file, absent=False, begin=None):
    """Save one population at some places, let others go on from there, or some, and compare every loss and the end."""
    whole, states, losses = make(), {}, []
    for step in range(STEPS):
        if step in places:
            state = whole.state_dict()
            states[step] = copy.deepcopy(state)
            wrecked(state)
        losses.append(whole.step(batches(step, absent)))
    end = whole.state_dict()
    for place in begin or places:
        state, other = states[place], make()
        given = way(copy.deepcopy(state), tmp_path)
        other.load_state_dict(given)
        wrecked(given)
        assert (other.steps, same(other.state_dict(), state)) == (place, True)
        assert [other.step(batches(step, absent)) for step in range(place, STEPS)] == losses[place:]
        assert same(other.state_dict(), end), place
    return whole, states


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_goes_on_bit_for_bit(vectorised, optimizer, tmp_path):
    begin = PLACES if optimizer == "adam" else (0, 58)  # those of another optimiser lack its state, or have it
    whole, states = goes_on_alike(lambda: population(optimizer, vectorised), PLACES, tmp_path, begin=begin)
    found = {place: (state["grouping"]["groups"], state["grouping"]["settled"]) for place, state in states.items()}
    assert found[7] == ([[0], [1], [2], [3]], [])  # the places are what they say
    assert found[30] == ([[0], [1], [2], [3]], []) or found[30][1] == [0, 1, 2, 3]
    assert found[37] == ([[0, 1], [2, 3]], [0, 1, 2, 3]) and found[58] == ([[0, 1], [2], [3]], [0, 1, 2])
    assert whole.groups == [[0, 1, 3], [2]]


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_with_members_that_lack_batches(vectorised, optimizer, tmp_path):
    """One that is vectorised then steps row by row, and remembers other numbers of steps."""
    whole, states = goes_on_alike(
        lambda: population(optimizer, vectorised), (2, 4, 12, 38), tmp_path, in_memory, absent=True
    )
    if optimizer == "adam":
        counts = [float(member["optimizer"]["state"]["0.weight"]["step"]) for member in states[38]["members"]]
        assert counts == [38, 33, 38, 38]
    assert whole.groups != [[0], [1], [2], [3]]


POLICIES = {
    "plateau": (MergePolicy(interval=INTERVAL, when="plateau", plateau=Plateau(loss=0.1), probe=1), {}),
    "most merges": (MergePolicy(interval=INTERVAL, most_merges=2, probe=1), {"epoch": 45}),
    "update": (MergePolicy(interval=INTERVAL, measure="update", threshold=0.4), {}),
    "repel": (MergePolicy(interval=INTERVAL, drift="repel", weighted=True, merge="spherical"), {}),
    "weights only": (MergePolicy(interval=INTERVAL, optimizer_state=False), {}),
    "fixed": (MergePolicy(interval=INTERVAL), {"fixed": [[0, 1], [2, 3]]}),
    "one probe": (MergePolicy(interval=INTERVAL), {"probes": 1}),
    "one body": (MergePolicy(interval=INTERVAL, features=-1.0), {}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name, tmp_path):
    policy, options = POLICIES[name]
    whole, states = goes_on_alike(
        lambda: population("adam", None, policy, **options), (5, 37, 43, 71), tmp_path, in_memory
    )
    assert any(len(group) > 1 for group in whole.groups)
    if name == "most merges":
        assert [state["merges"] for state in states.values()] == [0, 2, 2, 2]
    if name == "one body":
        assert states[37]["grouping"]["bodies"] == [[0, 1, 2, 3]] != states[37]["grouping"]["groups"]


def test_other_optimisers_and_architectures_step_separately(tmp_path):
    def make():
        models = [network(), network(), nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Identity(), nn.Linear(5, 4))]
        lbfgs = lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2, history_size=3)  # noqa: E731
        return Population(models, LOSS, lbfgs, MergePolicy(interval=5), start_alike=True)

    whole, other = make(), make()
    for step in range(12):
        whole.step(batches(step)[:3])
    other.load_state_dict(through_a_file(whole.state_dict(), tmp_path))
    for step in range(12, 20):
        assert other.step(batches(step)[:3]) == whole.step(batches(step)[:3])
    assert same(other.state_dict(), whole.state_dict())


def test_what_was_changed_of_an_optimiser_is_kept(tmp_path):
    """A schedule of rates lies in the groups of parameters."""
    for vectorised in (True, False):
        whole, other = (population("sgd", vectorised) for _ in range(2))
        for optimizer in (
            [whole._roster.members._optimizer._optimizer] if vectorised else whole._roster.members._optimizers
        ):
            optimizer.param_groups[0]["lr"] = 0.025
        for step in range(3):
            whole.step(batches(step))
        other.load_state_dict(through_a_file(whole.state_dict(), tmp_path))
        assert other.step(batches(3)) == whole.step(batches(3))
        assert same(other.state_dict(), whole.state_dict())
        rates = [member["optimizer"]["param_groups"][0]["lr"] for member in other.state_dict()["members"]]
        assert rates == [0.025] * 4


@pytest.mark.parametrize("there", [True, False])
def test_it_may_step_another_way_than_before(there, tmp_path):
    """Not bit by bit then, but from the same place: weights, moments, numbers of steps."""
    whole, other = population("adam", there), population("adam", not there)
    for step in range(38):
        whole.step(batches(step, absent=True))
    state = whole.state_dict()
    other.load_state_dict(state)
    found = other.state_dict()
    assert same(found["members"], state["members"])
    for step in range(38, 48):
        expected = whole.step(batches(step))
        assert other.step(batches(step)) == pytest.approx(expected, rel=1e-3)


def test_every_part_of_watches_and_groupings_comes_back():
    watch = Watch(first=3.0, losses=[2.0, 1.0], intervals=2, before={})
    for loss in (1.0, 1.5, 1.25, 4.0, 1.0, 2.0):
        watch.add(loss)
    watch.close()
    watch.add(0.5)
    watch.add(7.0)
    assert Watch.of(watch.state_dict()) == watch != Watch()
    grouping, other = Grouping(4), Grouping(4)
    grouping.settle([[0, 1], [2]], [[0, 1, 2]])
    other.load_state_dict(grouping.state_dict())
    assert vars(other) == vars(grouping) != vars(Grouping(4))


def test_losses_that_are_nan_come_back(tmp_path):
    whole, other = population(), population()
    for step in range(12):
        one, two, three, four = batches(step)
        whole.step([one, two, (three[0] * torch.nan, three[1]), four])
    state = whole.state_dict()
    other.load_state_dict(through_a_file(state, tmp_path))
    assert same(other.state_dict(), state)
    assert state["members"][2]["watch"]["losses"][0] != state["members"][2]["watch"]["losses"][0]


def test_bookmarks_and_events_go_on(tmp_path):
    """The beginning is bookmarked once, by the population that took the first step."""
    marks = Generations()
    with Ledger(tmp_path / "runs.db") as ledger:
        whole = population(generations=marks, ledger=ledger)
        for step in range(35):
            whole.step(batches(step))
        other = population(generations=marks, ledger=ledger)
        other.load_state_dict(whole.state_dict())
        for step in range(35, 50):
            other.step(batches(step))
        assert [mark.what for mark in marks.list()].count("start") == 1
        assert [event.payload["step"] for event in ledger.read(kind="loss")] == [10, 20, 30, 40, 50]


WRONG = {
    "fewer members": (lambda: population(count=3), r"\['0', '1', '2', '3'\], this population has \['0', '1', '2'\]"),
    "other names": (lambda: population(names=list("abcd")), r"this population has \['a', 'b', 'c', 'd'\]"),
    "another interval": (lambda: population(policy=MergePolicy(interval=9)), "interval 10, this population has 9"),
    "other models": (
        lambda: population(hidden=12), r"member '0': 0\.weight is float32 \(16, 8\) there and float32 \(12, 8\)"
    ),
    "another optimiser": (lambda: population("sgd"), "optimiser is Adam, here it is SGD"),
    "fixed groups": (lambda: population(fixed=[[0, 1], [2, 3]]), r"free groups .*fixed groups"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("vectorised", [True, False])
def test_what_does_not_fit_is_refused_and_changes_nothing(wrong, vectorised):
    make, message = WRONG[wrong]
    saved, other = population(vectorised=vectorised), make()
    for step in range(33):
        saved.step(batches(step))
        other.step(batches(step)[: len(other.models)])
    before = other.state_dict()
    with pytest.raises(InvalidValueError, match=message):
        other.load_state_dict(saved.state_dict())
    assert same(other.state_dict(), before)


@pytest.mark.parametrize("change", [
    lambda state: state.pop("grouping"), lambda state: state["members"].pop(),
    lambda state: state["members"][3].pop("watch"),
    lambda state: state["members"][3]["tensors"].pop("3.bias"),
    lambda state: state["members"][3]["tensors"].update(more=torch.ones(1)),
    lambda state: state["members"][3]["watch"]["before"].pop("3.bias"),
    lambda state: state["members"][3]["optimizer"].pop("state"),
    lambda state: state["members"][3]["optimizer"]["param_groups"][0]["params"].reverse(),
    lambda state: state["members"][3]["optimizer"]["param_groups"][0].update(lr=0.5),
    lambda state: state["grouping"]["groups"].append([7]),
])  # fmt: skip
def test_damaged_states_are_refused_and_change_nothing(change):
    saved, other = population(), population()
    for step in range(12):
        saved.step(batches(step))
    state, before = saved.state_dict(), other.state_dict()
    change(state)
    with pytest.raises(InvalidValueError):
        other.load_state_dict(state)
    assert same(other.state_dict(), before)


def test_batches_that_cannot_be_kept_are_named():
    class Inputs:
        def __init__(self, x):
            self.x = x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 4)

        def forward(self, inputs):
            return self.inner(inputs["x"].x if isinstance(inputs["x"], Inputs) else inputs["x"])

    pop = Population([Model(), Model()], LOSS, OPTIMIZERS["sgd"], start_alike=True)
    x, y = batches(0)[0]
    pop.step([({"x": x, 3: (1, None)}, y)] * 2)
    state = pop.state_dict()
    assert same(state["members"][1]["probes"], [({"x": x, 3: (1, None)}, y)])
    pop.step([({"x": x}, y), ({"x": Inputs(x)}, y)])
    with pytest.raises(InvalidDTypeError, match=r"\['members'\]\[1\]\['probes'\]\[1\]\[0\]\['x'\] is a .*Inputs"):
        pop.state_dict()


def test_fixed_groups_stay_after_a_bookmark_was_restored():
    marks = Generations()
    pop = population(fixed=[[0, 1], [2, 3]], generations=marks)
    for step in range(20):
        pop.step(batches(step))
    pop.restore(marks.list()[-1].number)
    assert pop.groups == [[0, 1], [2, 3]]


def test_a_file_is_whole_or_refused(tmp_path):
    pop = population()
    for step in range(12):
        pop.step(batches(step))
    path = write_checkpoint(tmp_path / "state.safetensors", pop.state_dict())
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert any(entry["dtype"] == "F32" for name, entry in header.items() if name != "__metadata__")
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(raw), (200,), generator=generator).tolist()
    for place in (0, 8, 50, len(raw) - 1, *places):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(CorruptFileError, match="damaged or no checkpoint"):
            read_checkpoint(path)
    for size in (0, 7, 8, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:size])
        with pytest.raises(CorruptFileError, match="damaged or no checkpoint"):
            read_checkpoint(path)
    marks = Generations(tmp_path / "marks")
    marks.mark("start", {"a": {"w": torch.ones(1)}}, step=0)
    with pytest.raises(CorruptFileError, match=r"tithe\.generations"):
        read_checkpoint(tmp_path / "marks" / "generation-000001.safetensors")
    with pytest.raises(InvalidValueError, match="cannot be written"):
        write_checkpoint(tmp_path / "other", {"a": object()})
    assert not (tmp_path / "other").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_on_cuda(vectorised, optimizer, tmp_path):
    """Tensors come back to the device of the members, counts of steps to where the optimiser keeps them."""

    def make():
        models = [network().cuda() for _ in range(4)]
        return Population(models, LOSS, OPTIMIZERS[optimizer], MergePolicy(interval=INTERVAL), vectorised=vectorised)

    def on_cuda(step):
        return [None if batch is None else tuple(part.cuda() for part in batch) for batch in batches(step, step < 20)]

    whole, other = make(), make()
    for step in range(37):
        whole.step(on_cuda(step))
    other.load_state_dict(through_a_file(whole.state_dict(), tmp_path))
    for step in range(37, 60):
        assert other.step(on_cuda(step)) == whole.step(on_cuda(step))
    assert same(other.state_dict(), whole.state_dict())
