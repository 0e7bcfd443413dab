"""log pi_ref of a molecule's spellings, of a batch's molecules and of the replay buffer's."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch

from chemmara.chemistry.molecules import randomize
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary, pad
from chemmara.optimization.replay import Remembered
from chemmara.optimization.spelling import RANDOM_SPELLINGS, BufferModes, canonical_rows, mode_log_ref
from chemmara.policies.lstm import LstmPolicy
from chemmara.policies.recurrent import LstmParameters

ALANINOL = "C[C@H](N)CO"
SEED = 5


@pytest.fixture
def prior() -> LstmPolicy:
    """It has not got [C@@H], so some spellings of a chiral molecule are beyond it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = LstmParameters(embedding_size=8, hidden_size=16, layers=1)
        return LstmPolicy(Vocabulary.from_tokens(["C", "N", "O", "(", ")", "[C@H]", "1"]), shape)


def log_prob(prior: LstmPolicy, text: str) -> float:
    with torch.no_grad():
        return float(prior.log_prob(torch.tensor([prior.vocabulary.encode(text)])))


def remembered(prior: LstmPolicy, smiles: str, text: str, reward: float = 0.9) -> Remembered:
    return Remembered(smiles, tuple(prior.vocabulary.encode(text)), "", reward, log_prob(prior, text))


def test_all_spellings_are_those_that_the_vocabulary_has(prior: LstmPolicy) -> None:
    text = "OC[C@H](C)N"
    own = torch.tensor([prior.vocabulary.encode(text)])
    spellings = {text, ALANINOL, *(randomize(ALANINOL, SEED + number) for number in range(RANDOM_SPELLINGS))}
    writable = [spelling for spelling in spellings if "[C@@H]" not in spelling]
    assert 1 < len(writable) < len(spellings), "otherwise there is nothing to test"
    sampled = torch.tensor([log_prob(prior, text)])
    found = mode_log_ref(prior, "molecule", own, [text], [ALANINOL], sampled, [SEED])
    expected = torch.tensor([log_prob(prior, spelling) for spelling in writable]).logsumexp(0)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_spellings_that_are_one_text_in_selfies_count_once() -> None:
    """Decoded SELFIES is Kekule, canonical and random SMILES are aromatic: other letters, the same tokens."""
    from chemmara.language.tokenizers import SelfiesTokenizer

    phenol = "Oc1ccccc1"
    tokens = SelfiesTokenizer().split(phenol) + SelfiesTokenizer().split("C1=CC=CC(O)=C1")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = LstmParameters(embedding_size=8, hidden_size=16, layers=1)
        policy = LstmPolicy(Vocabulary.from_tokens(sorted(set(tokens)), "selfies"), shape)
    policy.precision = "float32"
    own = torch.tensor([policy.vocabulary.encode(phenol)])
    text = policy.vocabulary.decode(own.numpy())[0]
    assert text != phenol
    sampled = torch.tensor([log_prob(policy, phenol)])
    found = mode_log_ref(policy, "molecule", own, [text], [phenol], sampled, [SEED])
    texts = [phenol, *(randomize(phenol, SEED + number) for number in range(RANDOM_SPELLINGS))]
    rows: dict[tuple[int, ...], float] = {}
    for each in texts:
        with contextlib.suppress(UnreadableText):
            rows[tuple(policy.vocabulary.encode(each))] = log_prob(policy, each)
    assert float(found) == pytest.approx(float(torch.tensor(list(rows.values())).logsumexp(0)), abs=1e-4)


def test_the_buffer_is_spelled_as_the_batch_is(prior: LstmPolicy) -> None:
    entries = [remembered(prior, "CCO", "OCC"), remembered(prior, ALANINOL, "OC[C@H](C)N")]
    ids = torch.from_numpy(pad([entry.ids for entry in entries]))
    sampled, smiles = torch.tensor([entry.prior_log_prob for entry in entries]), [entry.smiles for entry in entries]
    canonical = mode_log_ref(prior, "canonical", ids, ["OCC", "OC[C@H](C)N"], smiles, sampled, [0, 0])
    assert BufferModes(prior, "sampled")(entries).tolist() == sampled.tolist()
    assert BufferModes(prior, "canonical")(entries).tolist() == canonical.tolist() != sampled.tolist()
    assert (BufferModes(prior, "molecule")(entries) > torch.maximum(sampled, canonical)).all()


def test_a_molecule_of_the_buffer_keeps_its_figure_over_a_restart(prior: LstmPolicy) -> None:
    first, second = remembered(prior, "CCO", "OCC"), remembered(prior, "CCN", "NCC")
    modes, resumed = BufferModes(prior, "molecule"), BufferModes(prior, "molecule")
    before = modes([first]).tolist()
    resumed.load_state_dict(json.loads(json.dumps(modes.state_dict())))
    with torch.no_grad():
        prior.output.bias.add_(torch.arange(len(prior.output.bias)))  # what is asked for anew would be different
    assert resumed([first, second]).tolist()[0] == before[0]
    resumed([second])
    assert list(resumed.state_dict()["known"]) == ["CCN"], "it holds no more than the buffer"


def test_rows_in_their_canonical_spelling_take_along_its_log_probability(prior: LstmPolicy) -> None:
    texts = ["OCC", ALANINOL, "NC[C@H](C)O", "C)(", "OCC"]
    smiles = [
        "CCO",
        ALANINOL,
        "C[C@@H](O)CN",
        None,
        "CCO",
    ]  # the third is beyond the vocabulary, the fourth no molecule
    rows = [tuple(prior.vocabulary.encode(text)) for text in texts]
    nats = [log_prob(prior, text) for text in texts]
    spelled, found = canonical_rows(prior, rows, nats, smiles)
    ethanol = tuple(prior.vocabulary.encode("CCO"))
    assert spelled == [ethanol, *rows[1:4], ethanol]
    assert found[1:4] == nats[1:4]
    assert found[0] == found[4] == pytest.approx(log_prob(prior, "CCO"), abs=1e-5)
    assert found[0] != pytest.approx(nats[0], abs=1e-3), "otherwise there is nothing to test"
    assert rows[0] == tuple(prior.vocabulary.encode("OCC")), "what was given is left as it was"
