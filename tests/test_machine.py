import json

import torch

from tithe import machine

KEYS = {"system", "processor", "cores", "threads", "int8_units", "bf16_units", "gpu", "python", "torch"}


def test_describe_is_json_with_stable_keys():
    described = machine.describe()
    assert set(described) == KEYS
    assert json.loads(json.dumps(described)) == described
    assert described["cores"] >= 1
    assert described["threads"] == torch.get_num_threads()
    assert described["torch"] == torch.__version__
    assert (described["gpu"] is not None) == torch.cuda.is_available()


def test_units_are_named_after_the_flags_that_prove_them(monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512_vnni", "amx_int8", "amx_bf16"}))
    described = machine.describe()
    assert described["int8_units"] == ["amx_int8", "avx512_vnni"]
    assert described["bf16_units"] == ["amx_bf16"]


def test_without_cpuinfo_nothing_is_claimed(monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(self)

    monkeypatch.setattr(machine.Path, "read_text", refuse)
    machine.cpu_flags.cache_clear()
    machine._cpuinfo.cache_clear()
    try:
        assert machine.cpu_flags() == frozenset()
        described = machine.describe()
        assert described["int8_units"] == described["bf16_units"] == []
        assert described["processor"]
    finally:
        machine.cpu_flags.cache_clear()
        machine._cpuinfo.cache_clear()


def test_flags_are_read_on_arm_too(monkeypatch):
    monkeypatch.setattr(machine.Path, "read_text", lambda self: "processor : 0\nFeatures\t: fp asimd i8mm\n")
    machine.cpu_flags.cache_clear()
    machine._cpuinfo.cache_clear()
    try:
        assert machine.cpu_flags() == {"fp", "asimd", "i8mm"}
    finally:
        machine.cpu_flags.cache_clear()
        machine._cpuinfo.cache_clear()
