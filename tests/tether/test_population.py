"""Populations: who merges with whom, what a merge does, and what stays as it was."""

import copy
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.ledger import Ledger
from tithe.tether import Generations, MergePolicy, Plateau, Population, attach, tethers
from tithe.tether.members import tensors_of
from tithe.tether.merging import adopt, distance, repel
from tithe.tether.trials import agreement_of_features, features, loss_on, output_layer

LOSS = nn.functional.cross_entropy


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(seed=0, hidden=32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


TEACHER = network(seed=9)


class Task:
    """Random inputs labelled by a fixed network, its classes renamed, its inputs turned."""

    def __init__(self, seed, shift=0, turned=False):
        self.x, self.generator = noise(64, 8, seed=seed), torch.Generator().manual_seed(seed)
        self.shift = shift
        with torch.no_grad():
            self.y = TEACHER(self.x.flip(1) if turned else self.x).argmax(1)

    def batch(self):
        rows = torch.randint(64, (16,), generator=self.generator)
        return self.x[rows], (self.y[rows] + self.shift) % 4


def population(tasks, policy=None, **options):
    start = network()
    return Population([copy.deepcopy(start) for _ in tasks], LOSS, adam, policy, **options)


def run(pop, tasks, steps):
    for _ in range(steps):
        pop.step([task.batch() for task in tasks])


def same(a, b):
    return all(torch.equal(tensors_of(a)[name], tensors_of(b)[name]) for name in tensors_of(a))


@pytest.mark.parametrize("vectorised", [True, False])
def test_members_that_agree_merge_and_others_keep_their_outputs(vectorised):
    tasks = [Task(1), Task(2), Task(3, shift=1), Task(4, shift=1)]
    pop = population(tasks, MergePolicy(interval=20), vectorised=vectorised)
    run(pop, tasks, 59)
    assert pop.groups == [[0], [1], [2], [3]]
    run(pop, tasks, 1)
    assert pop.groups == [[0, 1], [2, 3]]
    assert same(pop.models[0], pop.models[1]) and same(pop.models[2], pop.models[3])
    assert not torch.equal(pop.models[0][2].weight, pop.models[2][2].weight)


def test_bodies_merge_where_features_agree_and_only_there():
    """The same inputs under other labels share all but the output layer; turned inputs share nothing."""
    for turned, shared in ((False, True), (True, False)):
        tasks = [Task(1), Task(2), Task(3, 1, turned), Task(4, 1, turned)]
        pop = population(tasks, MergePolicy(interval=20))
        run(pop, tasks, 60)
        assert pop.groups == [[0, 1], [2, 3]]
        assert (pop.bodies == [[0, 1, 2, 3]]) is shared
        assert torch.equal(pop.models[0][0].weight, pop.models[2][0].weight) is shared
        assert not torch.equal(pop.models[0][2].weight, pop.models[2][2].weight)
    alone = population(tasks, MergePolicy(interval=20, features=None))
    run(alone, tasks, 60)
    assert alone.bodies == alone.groups


def test_a_member_that_changes_its_task_leaves_and_joins_another_group():
    tasks = [Task(1), Task(2), Task(3, shift=1), Task(4, shift=1), Task(5, shift=1)]
    pop = population(tasks, MergePolicy(interval=20))
    run(pop, tasks, 105)
    assert pop.groups == [[0, 1], [2, 3, 4]]
    tasks[4].shift = 0
    run(pop, tasks, 15)
    assert [4] in pop.groups
    run(pop, tasks, 60)
    assert pop.groups == [[0, 1, 4], [2, 3]] and same(pop.models[0], pop.models[4])


def test_fixed_groups_merge_from_the_first_interval_and_stay():
    tasks = [Task(1), Task(2, shift=1), Task(3)]
    pop = population(tasks, MergePolicy(interval=5), fixed=[[2, 0], [1]])
    run(pop, tasks, 5)
    assert pop.groups == pop.bodies == [[0, 2], [1]]
    assert same(pop.models[0], pop.models[2]) and not same(pop.models[0], pop.models[1])
    run(pop, tasks, 40)
    assert pop.groups == [[0, 2], [1]]
    with pytest.raises(InvalidValueError, match="one group"):
        population(tasks, fixed=[[0, 1]])


def test_a_merge_is_the_average_of_weights_and_moments():
    tasks = [Task(1), Task(2)]
    merging, apart = (population(tasks, MergePolicy(interval=7), fixed=f) for f in ([[0, 1]], [[0], [1]]))
    batches = [[task.batch() for task in tasks] for _ in range(7)]
    for pop in (merging, apart):
        for batch in batches:
            pop.step(batch)
    for member in (0, 1):
        for name, tensor in {**tensors_of(merging.models[member]), **merging._roster.members.moments(member)}.items():
            others = [{**tensors_of(apart.models[i]), **apart._roster.members.moments(i)}[name] for i in (0, 1)]
            torch.testing.assert_close(tensor, (others[0] + others[1]) / 2)


def test_without_optimizer_state_moments_stay():
    tasks = [Task(1), Task(2)]
    pop = population(tasks, MergePolicy(interval=7, optimizer_state=False), fixed=[[0, 1]])
    run(pop, tasks, 7)
    one, other = pop._roster.members.moments(0), pop._roster.members.moments(1)
    assert same(pop.models[0], pop.models[1]) and not torch.equal(one["0.weight/exp_avg"], other["0.weight/exp_avg"])


@pytest.mark.parametrize("measure", ["update", "cosine", "centred", "dot"])
def test_other_measures(measure):
    tasks = [Task(1), Task(2), Task(3, shift=1)]
    high = population(tasks, MergePolicy(interval=5, measure=measure, threshold=1e9, features=None))
    low = population(tasks, MergePolicy(interval=5, measure=measure, threshold=-1e9))
    for pop in (high, low):
        run(pop, tasks, 15)
    assert high.groups == [[0], [1], [2]] and low.groups == [[0, 1, 2]]


def test_measures_look_at_tethers_where_there_are_any():
    start, tasks = network(), [Task(1), Task(2)]
    models = [copy.deepcopy(start) for _ in tasks]
    for seed, model in enumerate(models):
        attach(model, init="uniform", generator=torch.Generator().manual_seed(seed))
    with pytest.raises(InvalidValueError, match="different weights"):
        Population(models, LOSS, adam)
    pop = Population(
        models, LOSS, adam, MergePolicy(interval=5, probe=1, measure="dot", threshold=50), start_alike=True
    )
    run(pop, tasks, 5)
    assert pop.groups == [[0, 1]]  # as in the source: uniform tethers always pass its test
    assert tethers(pop.models[0]) and not tethers(pop.export(0))


def test_merges_are_limited_by_epoch():
    tasks = [Task(1), Task(2)]
    pop = population(tasks, MergePolicy(interval=5, most_merges=2), fixed=[[0, 1]], epoch=20)
    merged = []
    for _ in range(40):
        pop.step([task.batch() for task in tasks])
        merged.append(same(pop.models[0], pop.models[1]))
    assert [step + 1 for step, yes in enumerate(merged) if yes] == [5, 10, 25, 30]
    with pytest.raises(InvalidValueError, match="epoch="):
        population(tasks, MergePolicy(most_merges=1))


def test_on_a_plateau_only():
    tasks = [Task(1), Task(2)]
    never = population(tasks, MergePolicy(interval=5, when="plateau", plateau=Plateau(loss=0.0)), fixed=[[0, 1]])
    always = population(tasks, MergePolicy(interval=5, when="plateau", plateau=Plateau(loss=1e9)), fixed=[[0, 1]])
    for pop in (never, always):
        run(pop, tasks, 20)
    assert not same(never.models[0], never.models[1]) and same(always.models[0], always.models[1])


def test_repelled_members_move_apart_up_to_a_bound():
    tasks = [Task(1), Task(2, shift=1)]
    pairs = []
    for drift in ("leave", "repel"):
        pop = population(tasks, MergePolicy(interval=10, drift=drift, repulsion=0.5, most_distance=5.0, features=None))
        tasks = [Task(1), Task(2, shift=1)]
        run(pop, tasks, 30)
        pairs.append(distance(*(tensors_of(model) for model in pop.models)))
        assert pop.groups == [[0], [1]]
    assert pairs[1] > 1.2 * pairs[0]
    state = {"w": torch.tensor([3.0, 4.0])}
    repel(state, [{"w": torch.zeros(2)}], share=5.0, most_distance=0.5)
    assert torch.equal(state["w"], torch.tensor([3.0, 4.0]))  # farther than the bound already


def test_adopt():
    pupil = {"w": torch.zeros(2), "w/m": torch.ones(2)}
    adopt(pupil, {"w": torch.ones(2)})
    assert pupil["w"].tolist() == [1, 1] and pupil["w/m"].tolist() == [0, 0]


def test_ledger_and_generations_tell_what_happened():
    tasks = [Task(1), Task(2), Task(3, shift=1)]
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "runs.db") as ledger:
        marks = Generations(Path(folder) / "marks")
        pop = population(tasks, MergePolicy(interval=10), generations=marks, ledger=ledger, run="r", names=list("abc"))
        run(pop, tasks, 50)
        events = ledger.read(run="r")
        kinds = [event.kind for event in events]
        assert {"loss", "groups", "compatibility", "features", "merge", "regroup"} <= set(kinds)
        assert kinds.count("loss") == 5
        merge = next(event.payload for event in events if event.kind == "merge")
        assert merge["step"] == 30 and len(merge["before"]) == len(merge["after"]) == len(merge["members"])
        bookmarks = marks.list()
        assert [b.what for b in bookmarks][:3] == ["start", "regroup", "merge"]
        last = bookmarks[-1]
        assert last.step == 50 and set(last.before) == set(last.after) <= set("abc")
        run(pop, tasks, 5)
        changed = {name: copy.deepcopy(pop.models["abc".index(name)]) for name in last.members}
        pop.restore(last.number)
        for name, tensors in marks.restore(last.number).items():
            model = pop.models["abc".index(name)]
            assert all(torch.equal(tensors_of(model)[n], t) for n, t in tensors.items())
            assert not same(model, changed[name])
        assert pop.groups == [[0], [1], [2]]
        run(pop, tasks, 30)
        assert [0, 1] in pop.groups
    with pytest.raises(InvalidStateError, match="generations="):
        population(tasks).restore(1)


def test_members_without_a_batch_and_unequal_batches():
    tasks = [Task(1), Task(2), Task(3)]
    pop = population(tasks, MergePolicy(interval=10))
    for step in range(40):
        batches = [task.batch() for task in tasks]
        batches[1] = (batches[1][0][:7], batches[1][1][:7])
        if step % 2:
            batches[2] = None
        losses = pop.step(batches)
        assert (losses[2] is None) == bool(step % 2) and all(loss > 0 for loss in losses[:2])
    assert pop.groups == [[0, 1, 2]]
    with pytest.raises(InvalidValueError, match="2 batches for 3 members"):
        pop.step([None, None])


def test_a_member_that_never_has_data_stays_alone():
    tasks = [Task(1), Task(2)]
    pop = population([*tasks, None], MergePolicy(interval=10))
    for _ in range(40):
        pop.step([*(task.batch() for task in tasks), None])
    assert [2] in pop.groups and same(pop.models[2], network())


def test_nan_does_not_spread():
    tasks = [Task(1), Task(2), Task(3)]
    pop = population(tasks, MergePolicy(interval=10))
    run(pop, tasks, 45)
    assert pop.groups == [[0, 1, 2]]
    x, y = tasks[2].batch()
    pop.step([tasks[0].batch(), tasks[1].batch(), (x * torch.nan, y)])
    run(pop, tasks, 34)
    assert [0, 1] in pop.groups and [2] in pop.groups
    assert all(t.isfinite().all() for i in (0, 1) for t in tensors_of(pop.models[i]).values())


def test_unequal_architectures_share_what_fits():
    wide, narrow = network(hidden=32), network(seed=1, hidden=16)
    narrow[2] = nn.Linear(16, 4)
    with pytest.raises(InvalidValueError, match="2\\.bias"):
        Population([wide, narrow], LOSS, adam)
    pop = Population([wide, narrow], LOSS, adam, start_alike=True)
    assert pop.shared == ("2.bias",) and pop.left_out["0.weight"] == "shapes (32, 8) and (16, 8)"
    tasks = [Task(1), Task(2)]
    run(pop, tasks, 100)
    assert [model[0].out_features for model in pop.models] == [32, 16]
    with pytest.raises(InvalidValueError, match="no tensor in common"):
        Population([nn.Linear(8, 4), nn.Sequential(nn.Linear(8, 4))], LOSS, adam)


def test_predict_and_export():
    tasks = [Task(1), Task(2), Task(3, shift=1)]
    pop = population(tasks, MergePolicy(interval=10))
    run(pop, tasks, 40)
    x = tasks[0].x
    each = [model(x) for model in pop.models]
    torch.testing.assert_close(pop.predict(x, member=2), each[2])
    torch.testing.assert_close(pop.predict(x, group_of=1), (each[0] + each[1]) / 2)
    torch.testing.assert_close(pop.predict(x), sum(each) / 3)
    plain = pop.export(0)
    torch.testing.assert_close(plain(x), each[0], rtol=0, atol=1e-6)
    fresh = network(seed=5)
    fresh.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fresh(x), each[0], rtol=0, atol=1e-6)
    run(pop, tasks, 3)
    torch.testing.assert_close(plain(x), each[0], rtol=0, atol=1e-6)  # its memory is its own


def test_what_cannot_form_a_population():
    model = network()
    with pytest.raises(InvalidValueError, match="two or more"):
        Population([model], LOSS, adam)
    with pytest.raises(InvalidValueError, match="two or more different ones"):
        Population([model, model], LOSS, adam)
    with pytest.raises(InvalidValueError, match=r"0\.weight"):
        Population([network(0), network(1)], LOSS, adam)


def test_trials_leave_nothing_behind():
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[1].eval()  # frozen statistics stay frozen
    before = copy.deepcopy(model)
    batches = [(noise(6, 8), torch.zeros(6, dtype=torch.int64))]
    assert output_layer(model) == "2" and loss_on(model, LOSS, batches) > 0
    changed = {"0.weight": torch.zeros(4, 8)}
    assert features(model, changed, batches).shape == (6, 4)
    assert not torch.equal(features(model, changed, batches), features(model, {}, batches))
    assert same(model, before) and model.training and not model[1].training and not model[2]._forward_pre_hooks


def test_predictions_leave_modes_and_statistics_alone():
    start = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4))
    pop = Population([copy.deepcopy(start) for _ in range(2)], LOSS, adam)
    x = noise(6, 8)
    assert torch.equal(pop.predict(x), pop.predict(x))
    assert all(model.training and same(model, start) for model in pop.models)


def test_agreement_of_features_of_itself_is_one_and_of_strangers_is_not():
    models = [network(seed) for seed in (0, 0, 1)]
    before = [{name: torch.zeros_like(t) for name, t in tensors_of(model).items()} for model in models]
    data = [[(noise(40, 8, seed=s), None)] for s in range(3)]
    found = agreement_of_features(models, before, data)
    assert torch.equal(found, found.T) and float(found[0, 1]) == pytest.approx(1, abs=1e-5)
    assert found[0, 2] < 0.98 and agreement_of_features(models, before, [[], [], []])[0, 1] == -torch.inf


@pytest.mark.gpu
@pytest.mark.parametrize("vectorised", [True, False])
def test_on_cuda(vectorised):
    """Decisions, merges and the way back to plain models, as on the CPU."""
    found = []
    for device in ("cpu", "cuda"):
        tasks = [Task(1), Task(2), Task(3, shift=1), Task(4, shift=1)]
        start = network().to(device)
        pop = Population(
            [copy.deepcopy(start) for _ in tasks], LOSS, adam, MergePolicy(interval=20), vectorised=vectorised
        )
        for _ in range(60):
            pop.step([tuple(tensor.to(device) for tensor in task.batch()) for task in tasks])
        assert pop.groups == [[0, 1], [2, 3]] and next(pop.export(0).parameters()).device.type == device
        found.append([{name: t.cpu() for name, t in tensors_of(model).items()} for model in pop.models])
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-3)
