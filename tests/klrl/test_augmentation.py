"""Augmentation: invariants over random batches, the closed-form targets by enumeration, and each anchor."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chemmara.errors import ConfigError
from chemmara.klrl import targets
from chemmara.klrl.augmentation import AUGMENTATIONS, Augmented, Mara, Samples, build_augmentation

DOUBLE = torch.float64
ANCHORS = ["batch", "running", "buffer", "random", "lowest"]
PROPERTY = settings(deadline=None, max_examples=50)


def make(
    reward: list[float] | Tensor,
    log_ref: list[float] | Tensor,
    counts: list[bool] | None = None,
    distinct: list[bool] | None = None,
    mode: list[float] | Tensor | None = None,
    dtype: torch.dtype = DOUBLE,
) -> Samples:
    reward, log_ref = torch.as_tensor(reward, dtype=dtype), torch.as_tensor(log_ref, dtype=dtype)
    everything = torch.ones(len(reward), dtype=torch.bool)
    return Samples(
        reward,
        log_ref,
        log_ref if mode is None else torch.as_tensor(mode, dtype=dtype),
        everything if counts is None else torch.tensor(counts),
        everything if distinct is None else torch.tensor(distinct),
    )


def permuted(samples: Samples, order: Tensor) -> Samples:
    return Samples(*(None if value is None else value[order] for value in values(samples)))


def values(samples: Samples) -> list[Tensor | None]:
    return [getattr(samples, each.name) for each in fields(samples)]


def numbers(result: Augmented) -> list[float]:
    return [result.threshold, result.anchor_reward, result.anchor_log_ref]


@st.composite
def batches(draw: st.DrawFn) -> Samples:
    """Batches with ties, repeats, rows that do not count (some NaN) and impossible strings."""
    size = draw(st.integers(1, 12))
    reward, log_ref, mode, counts, distinct = [], [], [], [], []
    for _ in range(size):
        counting = draw(st.booleans())
        value = draw(st.sampled_from([0.0, 0.3, 0.7, 0.9]) | st.floats(0, 1, width=32))
        reward.append(value if counting else draw(st.sampled_from([value, math.nan])))
        log_ref.append(draw(st.sampled_from([-20.0, -30.0, -math.inf]) | st.floats(-80, 0, width=32)))
        mode.append(log_ref[-1] if draw(st.booleans()) else draw(st.floats(-80, 0, width=32)))
        counts.append(counting)
        distinct.append(draw(st.booleans()))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    samples = make(reward, log_ref, counts, distinct, mode, dtype)
    label = st.lists(st.integers(0, size - 1), min_size=size, max_size=size)
    # One distinct row a molecule.
    molecule = torch.where(samples.distinct, torch.arange(size), torch.tensor(draw(label)))
    log_agent = draw(st.lists(st.sampled_from([-20.0, -math.inf]) | st.floats(-80, 0), min_size=size, max_size=size))
    return replace(
        samples, log_agent=torch.tensor(log_agent), mode=torch.tensor(draw(label)), molecule=molecule, string=molecule
    )


betas = st.sampled_from([1e-4, 1 / 128, 0.1, 2.0])
rules = st.sampled_from([{"threshold": 0.7}, {"threshold": 0.0}, {"quantile": 0.5}, {"quantile": 0.9}])


def all_augmentations() -> list[dict[str, object]]:
    tables: list[dict[str, object]] = [{"name": entry.name} for entry in AUGMENTATIONS]
    tables += [{"name": "mara", "anchor": anchor, "quantile": 0.6} for anchor in ANCHORS]
    return [
        *tables,
        {"name": "mara", "levels": [0.3, 0.7, 0.9], "prior_share": 0.5},
        {"name": "mara", "start": 0.2, "anneal_steps": 5},
        {"name": "mara", "quantile": 0.5, "window": 20},
        {"name": "mara_modes", "within": "flat"},
    ]


@pytest.mark.parametrize("table", all_augmentations(), ids=str)
@settings(deadline=None, max_examples=15)
@given(samples=batches(), beta=betas, seed=st.integers(0, 99))
def test_permutation_and_nan_for_every_augmentation(
    table: dict[str, object], samples: Samples, beta: float, seed: int
) -> None:
    """The order of rows changes nothing; what does not count is untouched; no new NaN or infinity."""
    order = torch.randperm(len(samples.reward), generator=torch.Generator().manual_seed(seed))
    plain = build_augmentation(table, 0.7)(samples, beta, torch.Generator().manual_seed(seed), samples)
    mixed = permuted(samples, order)
    other = build_augmentation(table, 0.7)(mixed, beta, torch.Generator().manual_seed(seed), mixed)
    assert torch.equal(plain.reward[order].nan_to_num(-9), other.reward.nan_to_num(-9))
    assert torch.equal(plain.good[order], other.good)
    assert numbers(plain) == pytest.approx(numbers(other), nan_ok=True, rel=0, abs=0)

    untouched = ~plain.good if str(table["name"]).startswith(("mara", "none")) else ~samples.counts
    assert torch.equal(plain.reward[untouched].nan_to_num(-9), samples.reward[untouched].nan_to_num(-9))
    assert plain.reward[samples.counts].isfinite().all()
    assert not (plain.good & ~samples.counts).any()
    assert plain.reward.dtype == samples.reward.dtype


@PROPERTY
@given(samples=batches(), beta=betas)
def test_batch_anchor_is_idempotent_and_never_below_the_threshold(samples: Samples, beta: float) -> None:
    mara = Mara(threshold=0.7)
    once = mara(samples, beta)
    twice = mara(replace(samples, reward=once.reward), beta)
    assert torch.equal(once.reward.nan_to_num(-9), twice.reward.nan_to_num(-9))
    assert torch.equal(once.good, twice.good)
    # In the rewards' own precision: 0.7 in float32 is below 0.7.
    assert (once.reward[once.good] >= samples.reward.new_tensor(0.7)).all()


@PROPERTY
@given(samples=batches(), beta=betas, rule=rules)
def test_target_is_flat_above_the_threshold(samples: Samples, beta: float, rule: dict[str, float]) -> None:
    """log m + R_bar/beta, the log of the (unnormalised) target, is one number over all good samples."""
    result = Mara(**rule)(samples, beta)
    flat = result.good & samples.mode_log_ref.isfinite()
    if flat.any():
        level = beta * samples.mode_log_ref[flat] + result.reward[flat]
        expected = beta * result.anchor_log_ref + result.anchor_reward
        assert level.tolist() == pytest.approx([expected] * int(flat.sum()), abs=1e-4)
        assert result.anchor_log_ref == float(samples.mode_log_ref[flat].max())


@PROPERTY
@given(samples=batches(), beta=betas)
def test_identity_when_nothing_reaches_the_threshold(samples: Samples, beta: float) -> None:
    for anchor in ANCHORS:
        result = Mara(threshold=1.5, anchor=anchor)(samples, beta, torch.Generator(), samples)
        assert torch.equal(result.reward.nan_to_num(-9), samples.reward.nan_to_num(-9))
        assert not result.good.any()
        assert math.isnan(result.anchor_reward)


@pytest.mark.parametrize("anchor", ANCHORS)
def test_beta_zero_does_nothing(anchor: str) -> None:
    samples = make([0.9, 0.8, 0.1], [-20.0, -30.0, -10.0])
    mara = Mara(threshold=0.7, anchor=anchor)
    result = mara(samples, 0.0)
    assert torch.equal(result.reward, samples.reward)
    assert result.good.tolist() == [True, True, False]
    assert math.isnan(result.anchor_reward)
    assert mara.state_dict() == {}


def test_worked_example() -> None:
    samples = make([0.9, 0.8, 0.1, 1.0, math.nan], [-30.0, -20.0, -10.0, -25.0, -1.0], [True, True, True, True, False])
    result = Mara(threshold=0.7)(samples, 0.01)
    # The anchor is row 1, the likeliest of the good ones, not the best one.
    assert (result.threshold, result.anchor_reward, result.anchor_log_ref) == (0.7, 0.8, -20.0)
    assert result.good.tolist() == [True, True, False, True, False]
    assert result.reward[:4].tolist() == pytest.approx([0.9, 0.8, 0.1, 0.85])
    assert math.isnan(result.reward[4])


def test_anchor_ties_go_to_the_higher_reward() -> None:
    result = Mara(threshold=0.7)(make([0.8, 0.95, 0.9], [-20.0, -20.0, -20.0]), 0.01)
    assert result.anchor_reward == 0.95
    assert result.reward.tolist() == [0.95, 0.95, 0.95]


@PROPERTY
@given(
    logits=st.lists(st.floats(-10, 0), min_size=7, max_size=7),
    reward=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    tau=st.floats(0, 1),
    beta=st.sampled_from([0.01, 0.1, 1.0]),
    spelling=st.sampled_from(["sampled", "canonical", "molecule"]),
    divergence=st.sampled_from(["reverse", "forward"]),
)
def test_enumeration_gives_the_closed_form(
    logits: list[float], reward: list[float], tau: float, beta: float, spelling: str, divergence: str
) -> None:
    """All strings of a toy as one batch: the target of the augmented reward is the target of MARA."""
    molecule, canonical = torch.tensor([0, 0, 0, 1, 2, 2, 3]), torch.tensor([1, 1, 1, 3, 4, 4, 6])
    log_ref = torch.tensor(logits, dtype=DOUBLE).log_softmax(-1)
    rewards = torch.tensor(reward, dtype=DOUBLE)[molecule]
    mode = targets.mode_log_ref(log_ref, spelling, molecule, canonical)
    augmented = Mara(threshold=tau, spelling=spelling)(make(rewards, log_ref, mode=mode), beta).reward
    if divergence == "reverse":
        found = targets.reverse_kl_target(log_ref, augmented, beta)
    else:
        found = targets.forward_kl_target(log_ref, augmented, beta).log_probs
    closed = targets.mara_target(
        log_ref, rewards, beta, tau, divergence=divergence, spelling=spelling, molecule=molecule, canonical=canonical
    )
    assert torch.allclose(found.exp(), closed.exp(), atol=1e-6)


def test_quantile_is_over_distinct_counting_molecules_and_takes_the_higher() -> None:
    reward = [0.1, 0.2, 0.3, 0.4, 0.9, 0.9, 0.95, math.nan]
    counts = [True] * 6 + [False, False]
    distinct = [True] * 5 + [False, True, True]
    samples = make(reward, [-20.0] * 8, counts, distinct)
    # Of .1 .2 .3 .4 .9: position .6 * 4 = 2.4 lies between .3 and .4.
    assert Mara(quantile=0.6)(samples, 0.01).threshold == 0.4
    assert Mara(quantile=0.5)(samples, 0.01).threshold == 0.3
    assert Mara(quantile=0.99)(samples, 0.01).threshold == 0.9
    assert Mara(quantile=0.6)(samples, 0.01).good.tolist() == [False] * 3 + [True] * 3 + [False] * 2


@PROPERTY
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=101), quantile=st.sampled_from([0.07, 0.3, 0.5, 0.9]))
def test_quantile_equals_torch(values: list[float], quantile: float) -> None:
    expected = torch.quantile(torch.tensor(values, dtype=DOUBLE), round(quantile, 6), interpolation="higher")
    found = Mara(quantile=quantile)(make(values, [-20.0] * len(values)), 0.01).threshold
    position = quantile * (len(values) - 1)
    if abs(position - round(position)) <= 1e-6:  # on a whole number torch's own rounding decides
        expected = torch.tensor(sorted(values)[round(position)], dtype=DOUBLE)
    wanted = float(expected)
    if wanted == min(values):  # what earned least is not good where another earned more
        wanted = min((value for value in values if value > wanted), default=wanted or math.nan)
    assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@pytest.mark.parametrize("window", [None, 50])
def test_a_quantile_among_zeros_makes_no_zero_good(window: int | None) -> None:
    """A filter or a substructure leaves most at 0; the prior's favourite is among them, and no anchor."""
    reward = [0.0] * 13 + [0.9, 0.8, 0.6]
    samples = make(reward, [-10.0] * 13 + [-30.0, -35.0, -40.0])
    result = Mara(quantile=0.8, window=window)(samples, 0.01)
    assert result.threshold == 0.6
    assert result.good.tolist() == [value >= result.threshold for value in reward]
    assert not result.good[:13].any()
    assert result.reward[:13].tolist() == [0.0] * 13
    nothing = Mara(quantile=0.8, window=window)(make([0.0] * 4, [-10.0, -20.0, -30.0, -40.0]), 0.01)
    assert math.isnan(nothing.threshold)
    assert nothing.reward.tolist() == [0.0] * 4


def test_a_batch_without_a_molecule_leaves_tau_for_replay_where_it_was() -> None:
    mara = Mara(quantile=0.5)
    mara(make([0.2, 0.6, 0.4], [-20.0, -30.0, -40.0]), 0.01)
    mara(make([math.nan], [-9.0], [False]), 0.01)
    again = Mara(quantile=0.5)
    again.load_state_dict(json.loads(json.dumps(mara.state_dict())))
    replayed = make([0.5, 0.9, 0.3], [-20.0, -30.0, -40.0])
    for one in (mara, again):
        assert one(replayed, 0.01, replayed=True).threshold == 0.4


def test_quantile_of_nothing_is_no_threshold() -> None:
    samples = make([0.9, math.nan], [-20.0, -30.0], [False, False])
    result = Mara(quantile=0.5)(samples, 0.01)
    assert math.isnan(result.threshold)
    assert not result.good.any()
    assert float(result.reward[0]) == 0.9


def test_running_anchor_remembers_drops_and_survives_a_restart() -> None:
    mara = Mara(quantile=0.5, anchor="running")
    first = mara(make([0.6, 0.1], [-20.0, -5.0]), 0.01)
    assert (first.threshold, first.anchor_log_ref) == (0.6, -20.0)
    # A less likely batch below the same threshold keeps the old anchor.
    second = mara(make([0.5, 0.6], [-40.0, -30.0]), 0.01)
    assert (second.anchor_reward, second.anchor_log_ref) == (0.6, -20.0)
    assert second.reward.tolist() == pytest.approx([0.5, 0.7])
    # JSON and back, then the same step gives the same.
    state = json.loads(json.dumps(mara.state_dict()))
    resumed = Mara(quantile=0.5, anchor="running")
    resumed.load_state_dict(state)
    batch = make([0.55, 0.4], [-25.0, -1.0])
    assert numbers(resumed(batch, 0.01)) == numbers(mara(batch, 0.01))
    # An empty batch says nothing; once tau passes the anchor it is gone for good.
    mara(make([math.nan], [-9.0], [False]), 0.01)
    assert {**mara.state_dict(), "threshold": None} == {**state, "threshold": None}
    third = mara(make([0.8, 0.9], [-50.0, -60.0]), 0.01)
    assert (third.threshold, third.anchor_log_ref) == (0.9, -60.0)
    mara.load_state_dict({})
    assert mara.state_dict() == {}


def test_running_anchor_at_the_threshold_is_kept_in_float32() -> None:
    mara = Mara(threshold=0.7, anchor="running")
    mara(make([0.7], [-20.0], dtype=torch.float32), 0.01)
    later = mara(make([0.9], [-30.0], dtype=torch.float32), 0.01)
    assert later.anchor_log_ref == -20.0


def test_buffer_anchor_takes_the_likeliest_of_batch_and_buffer() -> None:
    batch = make([0.9, 0.8], [-30.0, -40.0])
    buffer = make([0.75, 0.1, 0.99, math.nan], [-10.0, -1.0, -5.0, -2.0], [True, True, False, True])
    mara = Mara(threshold=0.7, anchor="buffer")
    assert mara(batch, 0.01, buffer=buffer).anchor_log_ref == -10.0
    assert mara(batch, 0.01).anchor_log_ref == -30.0
    assert mara(batch, 0.01, buffer=make([0.2], [-1.0])).anchor_log_ref == -30.0


def test_ablation_anchors() -> None:
    samples = make([0.9, 0.8, 0.71, 0.1], [-30.0, -40.0, -20.0, -1.0])
    lowest = Mara(threshold=0.7, anchor="lowest")(samples, 0.01)
    assert lowest.anchor_log_ref == -40.0
    assert float(lowest.reward[2]) == pytest.approx(0.6)  # a good sample may fall below tau here
    mara = Mara(threshold=0.7, anchor="random")
    drawn = {mara(samples, 0.01, torch.Generator().manual_seed(s)).anchor_log_ref for s in range(30)}
    assert drawn == {-30.0, -40.0, -20.0}
    with pytest.raises(ValueError, match="needs a generator"):
        mara(samples, 0.01)


def test_default_threshold_is_the_runs() -> None:
    samples = make([0.9, 0.5], [-30.0, -20.0])
    assert build_augmentation({"name": "mara"}, 0.7)(samples, 0.01).threshold == 0.7
    assert build_augmentation({"name": "mara", "threshold": 0.4}, 0.7)(samples, 0.01).threshold == 0.4
    assert build_augmentation({"name": "mara", "quantile": 0.5}, 0.7)(samples, 0.01).threshold == 0.9
    none = build_augmentation({"name": "none"}, 0.7)(samples, 0.01)
    assert none.good.tolist() == [True, False]
    assert torch.equal(none.reward, samples.reward)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "mara", "threshold": 0.7, "quantile": 0.9}, "augmentation: give threshold = 0.7 or quantile = 0.9"),
        ({"name": "mara", "quantile": 1.0}, "augmentation.quantile: should be less than 1"),
        ({"name": "mara", "quantile": 0.0}, "augmentation.quantile: should be greater than 0"),
        ({"name": "mara", "anchor": "bach"}, "did you mean 'batch'?"),
        ({"name": "mara", "spelling": "molecules"}, "did you mean 'molecule'?"),
        ({"name": "mara", "treshold": 0.5}, "augmentation.treshold: unknown key; did you mean 'threshold'?"),
        ({"name": "marra"}, "unknown augmentation 'marra'; did you mean 'mara'?"),
        ({"name": "mara"}, "augmentation: mara: give a threshold or a quantile"),
        ({"name": "none", "threshold": 0.5}, "augmentation.threshold: unknown key"),
    ],
)
def test_mistakes_are_one_clear_line(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_augmentation(table)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_python_api() -> None:
    assert Mara(threshold=0.7, spelling="canonical").spelling == "canonical"
    with pytest.raises(ConfigError, match="not both"):
        Mara(threshold=0.7, quantile=0.5)
    with pytest.raises(ConfigError, match="threshold or a quantile"):
        Mara()


def test_programming_errors_are_named() -> None:
    samples = make([0.9, 0.5], [-30.0, -20.0])
    for beta in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="beta must be finite"):
            Mara(threshold=0.7)(samples, beta)
    with pytest.raises(ValueError, match="log_ref: expected shape"):
        Mara(threshold=0.7)(replace(samples, log_ref=torch.zeros(3)), 0.1)
