"""Priors of REINVENT 4: read without running code, exact, and written so that it opens them."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import struct
import sys
import types
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from chemmara.errors import UserError
from chemmara.language.vocabulary import END, PAD, Vocabulary
from chemmara.policies import foreign
from chemmara.policies.catalog import WEIGHTS, find_prior
from chemmara.policies.decoding import Decoding
from chemmara.policies.reinvent import from_policy, read_reinvent, stays_at_its_end, to_policy
from chemmara.policies.reinvent_file import write_reinvent
from chemmara.policies.storage import load_policy
from chemmara.workflows.exchange import compare_log_probs, export_prior, import_prior

TOKENS = ["$", "^", "(", ")", "1", "=", "Br", "C", "N", "O", "[nH]", "c"]
TEXTS = ["CCO", "c1cc[nH]c1", "C", "BrC(=O)N", "CCCCCCCC"]
MODULE = "reinvent.models.reinvent.models.vocabulary"


class Net(nn.Module):
    """REINVENT's network, in the obvious way."""

    def __init__(self, cell: str, width: int = 7, hidden: int = 9, layers: int = 2) -> None:
        super().__init__()
        self._embedding = nn.Embedding(len(TOKENS), width)
        self._rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](width, hidden, layers, batch_first=True)
        self._linear = nn.Linear(hidden, len(TOKENS))

    def log_prob(self, tokens: list[str]) -> float:
        """Total of one sequence ('^' ... '$'), its softmax over all tokens."""
        ids = torch.tensor([[TOKENS.index(token) for token in tokens]])
        logits = self._linear(self._rnn(self._embedding(ids[:, :-1]))[0]).log_softmax(-1)
        return float(logits.gather(2, ids[:, 1:, None]).sum().detach())


@pytest.fixture
def their_modules(monkeypatch: pytest.MonkeyPatch) -> type:
    """As much of REINVENT as its files name, so that torch can write and read them."""
    parts = MODULE.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    tokenizer = type("SMILESTokenizer", (), {"__module__": MODULE})
    sys.modules[MODULE].SMILESTokenizer = tokenizer  # type: ignore[attr-defined]
    sys.modules[MODULE].Vocabulary = type("Vocabulary", (), {"__module__": MODULE})  # type: ignore[attr-defined]
    return tokenizer


def content(net: Net, tokenizer: Any, cell: str) -> dict[str, Any]:
    return {
        "max_sequence_length": 128,
        "metadata": {"hash_id": "ab", "model_id": uuid.UUID(int=5), "origina_data_source": "drugs", "comments": ["TL"],
                     "creation_date": 1.5, "updates": [1.0]},
        "model_type": "Reinvent",
        "network": net.state_dict(),
        "network_params": {"dropout": 0.1, "layer_size": 9, "num_layers": 2, "cell_type": cell,
                           "embedding_layer_size": 7, "layer_normalization": False},
        "tokenizer": tokenizer,
        "version": 1,
        "vocabulary": {"tokens": {token: i for i, token in enumerate(TOKENS)}, "pad_token": 0, "bos_token": 1,
                       "eos_token": 2, "unk_token": None},
    }  # fmt: skip


@pytest.fixture(params=["lstm", "gru"])
def made(request: Any, tmp_path: Path, their_modules: type) -> tuple[Net, Path]:
    """A network with random weights and the file that torch.save makes of it."""
    torch.manual_seed(1)
    net = Net(request.param)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3)
    path = tmp_path / "their.prior"
    torch.save(content(net, their_modules(), request.param), path)
    return net, path


def tokens_of(text: str) -> list[str]:
    return ["^", *Vocabulary([*("<pad>", "<start>", "<end>")], "reinvent").tokenizer.split(text), "$"]


def log_probs(policy: Any, texts: list[str]) -> torch.Tensor:
    policy.precision = "float32"
    with torch.no_grad():
        return policy.log_prob(torch.from_numpy(policy.vocabulary.encode_batch(texts)))


def test_log_probabilities_are_theirs(made: tuple[Net, Path], tmp_path: Path) -> None:
    net, path = made
    with pytest.raises(UserError, match=r"may be a prior of REINVENT; chemmara priors import"):
        load_policy(path)
    import_prior(path, tmp_path / "mine")
    policy = load_policy(tmp_path / "mine")
    expected = torch.tensor([net.log_prob(tokens_of(text)) for text in TEXTS])
    torch.testing.assert_close(log_probs(policy, TEXTS), expected, rtol=0, atol=1e-5)


def test_what_is_kept(made: tuple[Net, Path], tmp_path: Path) -> None:
    done = import_prior(made[1], tmp_path / "mine")
    prior = find_prior(tmp_path / "mine")
    history = prior.header()["history"]
    assert done.max_sequence_length == history["max_sequence_length"] == 128
    assert history["metadata"] == {"origina_data_source": "drugs", "comments": ["TL"], "creation_date": 1.5}
    assert prior.header()["parameters"]["dropout"] == 0.1
    assert prior.vocabulary().tokenizer_name == "reinvent"
    assert "drugs" in prior.card()


def test_the_start_token_is_drawn_as_often_as_there_and_is_no_text(made: tuple[Net, Path]) -> None:
    policy = to_policy(read_reinvent(made[1]))
    policy.precision = "float32"
    sampled = policy.sample(300, generator=torch.Generator().manual_seed(0), decoding=Decoding(max_tokens=40))
    torch.testing.assert_close(policy.log_prob(sampled.ids), sampled.log_prob, rtol=0, atol=1e-4)
    assert (sampled.ids == 3).any()  # an untrained network writes it often
    assert not any("^" in text for text in policy.vocabulary.decode(sampled.ids.numpy()))


def test_an_object_of_older_files_is_a_vocabulary_too(tmp_path: Path, their_modules: type) -> None:
    net = Net("lstm")
    old = content(net, their_modules(), "lstm")
    vocabulary = sys.modules[MODULE].Vocabulary()  # type: ignore[attr-defined]
    both = {token: i for i, token in enumerate(TOKENS)} | dict(enumerate(TOKENS))
    vocabulary.__dict__ = {"_tokens": both, "_current_id": len(TOKENS)}
    old |= {"vocabulary": vocabulary, "metadata": None}
    del old["model_type"], old["version"]
    torch.save(old, tmp_path / "old.prior")
    assert read_reinvent(tmp_path / "old.prior").tokens == tuple(TOKENS)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.bfloat16])
def test_other_number_formats(tmp_path: Path, their_modules: type, kind: torch.dtype) -> None:
    net = Net("lstm")
    wide = content(net, their_modules(), "lstm")
    wide["network"] = OrderedDict((name, value.to(kind)) for name, value in net.state_dict().items())
    torch.save(wide, tmp_path / "x.prior")
    for name, value in read_reinvent(tmp_path / "x.prior").weights.items():
        assert np.array_equal(value, net.state_dict()[name].to(kind).float().numpy())


def test_tensors_that_share_a_storage_and_are_transposed(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    torch.save({"a": whole[2:8].view(2, 3), "b": whole.view(3, 4).T, "c": torch.zeros(0, 3)}, tmp_path / "x.pt")
    found = foreign.read_foreign(tmp_path / "x.pt", ())
    assert np.array_equal(found["a"], whole[2:8].view(2, 3).numpy())
    assert np.array_equal(found["b"], whole.view(3, 4).T.numpy())
    assert found["c"].shape == (0, 3)


# Export


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_export_opens_there_and_gives_the_same_numbers(
    cell: str, build: Callable[..., Any], tmp_path: Path, their_modules: type
) -> None:
    policy = build(cell, Vocabulary.from_tokens(["C", "O", "(", ")", "Br"]), spread=2.0)
    write_reinvent(from_policy(policy, 99, "hello"), tmp_path / "mine.prior")
    there = torch.load(tmp_path / "mine.prior", weights_only=False, mmap=True)
    assert isinstance(there["tokenizer"], their_modules)
    assert there["max_sequence_length"] == 99
    assert there["network_params"]["layer_size"] == 17  # 16 and the latch
    assert there["metadata"]["comments"] == ["hello"]
    again = to_policy(read_reinvent(tmp_path / "mine.prior"))
    texts = ["CCO", "C(Br)O", "OOO", ""]
    torch.testing.assert_close(log_probs(again, texts), log_probs(policy, texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_export_stays_at_its_end(cell: str, build: Callable[..., Any], tiny: Vocabulary) -> None:
    """REINVENT counts the padding: after its end, nothing but the end may follow, and for nothing."""
    policy = build(cell, tiny, spread=2.0)
    assert not stays_at_its_end(policy)
    again = to_policy(from_policy(policy))
    ids = torch.tensor([[4, 5, END, END, END, END], [END] * 6])
    again.precision = "float32"
    after = again.token_log_probs(ids)
    assert torch.equal(after[0, 3:], torch.zeros(3))
    assert torch.equal(after[1, 1:], torch.zeros(5))


def test_an_imported_prior_goes_back_as_it_came(made: tuple[Net, Path], tmp_path: Path) -> None:
    """Where the network has learned to stay at its end, the file has the same weights."""
    prior = read_reinvent(made[1])
    end = from_policy(to_policy(prior))  # with the latch, for this network is untrained
    assert end.hidden_size == prior.hidden_size + 1
    write_reinvent(end, tmp_path / "a.prior")
    once = read_reinvent(tmp_path / "a.prior")
    twice = from_policy(to_policy(once))
    assert twice.tokens == once.tokens
    assert all(np.array_equal(twice.weights[name], value) for name, value in once.weights.items())


def test_an_export_names_what_reinvent_has_and_nothing_else(tiny_prior: Path, tmp_path: Path) -> None:
    export_prior(tiny_prior, tmp_path / "x.prior")
    with zipfile.ZipFile(tmp_path / "x.prior") as archive:
        names = {argument for code, argument, _ in pickletools.genops(archive.read("prior/data.pkl"))
                 if code.name == "GLOBAL"}  # fmt: skip
        places = [member.header_offset + 30 + len(member.filename) + len(member.extra) for member in archive.infolist()]
    assert names == {
        "collections OrderedDict", "torch FloatStorage", "torch._utils _rebuild_tensor_v2", f"{MODULE} SMILESTokenizer",
    }  # fmt: skip
    assert all(place % 64 == 0 for place in places)


@pytest.mark.parametrize(("name", "tokenizer", "words"), [
    ("transformer", "smiles", "is a transformer"), ("lstm", "selfies", "writes selfies"),
])  # fmt: skip
def test_what_cannot_be_exported(
    name: str, tokenizer: str, words: str, build: Callable[..., Any], vocabularies: dict[str, Vocabulary]
) -> None:
    with pytest.raises(UserError, match=words):
        from_policy(build(name, vocabularies[tokenizer]))


def test_the_comparison_counts_the_padding_apart(tiny_prior: Path, tmp_path: Path) -> None:
    policy = load_policy(tiny_prior)
    policy.precision = "float32"
    ids = torch.from_numpy(policy.vocabulary.encode_batch(["CCO", "CC(=O)O"]))
    with torch.no_grad():
        values = policy.log_prob(ids.masked_fill(ids == PAD, END)).tolist()
    (tmp_path / "t.csv").write_text(f"SMILES,log_prob\nCCO,{values[0]}\nCC(=O)O,{values[1]}\n")
    found = compare_log_probs(tiny_prior, tmp_path / "t.csv")
    assert found.padded < 1e-5 < found.plain


# Hostile and damaged files


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_reinvent(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message


def zipped(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("prior/data.pkl", program)
        for name, data in members.items():
            archive.writestr(f"prior/{name.replace('__', '/')}", data)
    return path


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (eval, "eval"), (exec, "exec"), (getattr, "getattr"), (open, "open"),
     (__import__, "__import__"), (Path.touch, "")],  # pickle asks for getattr, or for Path.touch itself
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_is_refused_and_does_not_run(tmp_path: Path, function: Any, name: str, protocol: int) -> None:
    victim = tmp_path / "was here"
    bomb = Call(function, victim if function is Path.touch else f"touch '{victim}'")
    program = pickle.dumps({"network": {}, "vocabulary": bomb}, protocol)
    refused(zipped(tmp_path / "x.prior", program), "is refused", "which no such file needs", name)
    assert not victim.exists()


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Call(os.system, f"touch '{tmp_path}/x'")))
    assert (tmp_path / "x").exists()


def program(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"ctorch\nFloatStorage\n"


def tensor(storage: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The instructions that rebuild a tensor; ``storage`` are those that push its storage."""

    def number(value: int) -> bytes:
        data = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data

    sizes = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides)]
    return REBUILD + b"(" + storage + number(offset) + sizes[0] + sizes[1] + b"\x89}tR"


def reference(key: bytes = b"0", count: int = 4, kind: bytes = STORAGE) -> bytes:
    text = b"X" + struct.pack("<I", len(key)) + key
    return b"(X\x07\x00\x00\x00storage" + kind + text + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"tQ"


DATA = np.arange(4, dtype="<f4").tobytes()
CASES = {
    "shape beyond the storage": (tensor(reference(), 0, (5,), (1,)), "shape (5,) in a storage of 4"),
    "offset beyond the storage": (tensor(reference(), 3, (2,), (1,)), "in a storage of 4"),
    "huge shape": (tensor(reference(), 0, (2**40, 2**40), (0, 0)), "shape"),
    "repeated by a stride of 0": (tensor(reference(), 0, (10**9,), (0,)), "in a storage of 4"),
    "a stride that leaves it": (tensor(reference(), 0, (2, 2), (3, 1)), "in a storage of 4"),
    "a negative stride": (tensor(reference(), 0, (2,), (-1,)), "shape"),
    "a negative offset": (tensor(reference(), -2, (2,), (1,)), "shape"),
    "more strides than sizes": (tensor(reference(), 0, (2,), (1, 1)), "shape"),
    "too many dimensions": (tensor(reference(), 0, (1,) * 40, (1,) * 40), "shape"),
    "no storage": (tensor(b"K\x05", 0, (1,), (1,)), "something else than a storage"),
    "a storage that is not there": (tensor(reference(b"7"), 0, (1,), (1,)), "missing or not"),
    "a path as a storage": (tensor(reference(b"../data.pkl"), 0, (1,), (1,)), "missing or not"),
    "a storage of another length": (tensor(reference(count=5), 0, (1,), (1,)), "missing or not 5"),
    "a storage of a wrong type": (tensor(reference(kind=REBUILD), 0, (1,), (1,)), "no storage"),
    "a reference to anything": (b"X\x01\x00\x00\x00aQ", "a reference that is no storage"),
    "a call of a storage type": (STORAGE + b")R", "a call of 'FloatStorage'"),
    "a change of a function": (REBUILD + b"}X\x08\x00\x00\x00__code__K\x01sb", "a change of"),
    "an old instance": (b"(cos\nsystem\no", "instruction OBJ"),
    "inst": (b"(ios\nsystem\n", "instruction INST"),
    "a text pid": (b"Pabc\n", "instruction PERSID"),
    "an extension": (b"\x82\x01", "instruction EXT1"),
    "a huge memo": (b"Nr\xff\xff\xff\x7f", "memo number"),
    "a class with arguments": (b"cuuid\nUUID\nK\x01\x85\x81", "damaged"),
    "an import through dots": (b"\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93", "OrderedDict.fromkeys"),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_instructions_are_refused(tmp_path: Path, case: str) -> None:
    code, words = CASES[case]
    refused(zipped(tmp_path / "x.prior", program(code), data__0=DATA), words)


def test_the_small_program_is_sound(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.prior", program(tensor(reference(), 1, (3,), (1,))), data__0=DATA)
    assert foreign.read_foreign(path, ()).tolist() == [1, 2, 3]


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "x.prior", b"\0" * 10**7, zipfile.ZIP_DEFLATED), "a compressed or encrypted member")


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many names for one long stretch of the file."""
    path = zipped(tmp_path / "x.prior", program(b"N"), data__0=b"x" * 10**6)
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    entry = data[at : data.rindex(b"PK\x05\x06")]
    more = entry * 50
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 51, 51, len(more), at + len(entry) - len(entry), 0)
    path.write_bytes(data[:at] + more + tail)
    refused(path)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_ENTRIES", 2)
    refused(zipped(tmp_path / "x.prior", program(b"N"), a=b"", b=b""), "3 members")


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80\x02}.", b"C" * 5000])
def test_files_that_are_no_zip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.prior").write_bytes(data)
    refused(tmp_path / "x.prior", "no zipped torch file")


def test_a_legacy_torch_file(tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "x.prior", _use_new_zipfile_serialization=False)
    refused(tmp_path / "x.prior", "older than torch 1.6")


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "x.prior", "does not exist")


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another model": (lambda c: c.update(model_type="Mol2Mol"), "its model is Mol2Mol"),
    "layer norm": (lambda c: c["network_params"].update(layer_normalization=True), "layer_normalization"),
    "another cell": (lambda c: c["network_params"].update(cell_type="rnn"), "cell type 'rnn'"),
    "no network": (lambda c: c.pop("network"), "its model is"),
    "no length": (lambda c: c.pop("max_sequence_length"), "max_sequence_length"),
    "wrong width": (lambda c: c["network_params"].update(layer_size=10), "has shape"),
    "more layers": (lambda c: c["network_params"].update(num_layers=3), "has no '_rnn.weight_ih_l2'"),
    "fewer layers": (lambda c: c["network_params"].update(num_layers=1), "is none of the weights"),
    "many layers": (lambda c: c["network_params"].update(num_layers=10**9), "num_layers"),
    "odd dropout": (lambda c: c["network_params"].update(dropout="much"), "dropout"),
    "a gap in the ids": (lambda c: c["vocabulary"]["tokens"].update({"C": 99}), "without a gap"),
    "no end": (lambda c: c["vocabulary"]["tokens"].pop("$"), "gap"),
    "an odd token": (lambda c: c["vocabulary"]["tokens"].update({"\n": 12}), "has the token"),
    "ids that are text": (lambda c: c["vocabulary"]["tokens"].update({"C": "7"}), "no whole numbers"),
    "not finite": (lambda c: c["network"]["_linear.bias"].fill_(torch.nan), "not finite"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_content_that_does_not_fit(tmp_path: Path, their_modules: type, edit: str) -> None:
    wrong = content(Net("lstm"), their_modules(), "lstm")
    if "type" in edit or edit == "no network":
        wrong.pop("model_type")
    EDITS[edit][0](wrong)
    torch.save(wrong, tmp_path / "x.prior")
    refused(tmp_path / "x.prior", "cannot be imported", EDITS[edit][1])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The pickle of a small export."""
    from chemmara.policies.lstm import LstmPolicy
    from chemmara.policies.recurrent import LstmParameters

    path = tmp_path_factory.mktemp("sound") / "x.prior"
    shape = LstmParameters(embedding_size=2, hidden_size=2, layers=1)
    write_reinvent(from_policy(LstmPolicy(Vocabulary.from_tokens(["C"]), shape)), path)
    return path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_one_clear_line_or_reads(sound: bytes, tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 1500))] = data.draw(st.integers(0, 255))
    # The sum of the pickle is made right again: what is tested is the reader, not the archive.
    path = tmp_path / "x.prior"
    with zipfile.ZipFile(io.BytesIO(sound)) as archive, zipfile.ZipFile(path, "w") as out:
        first = archive.infolist()[0]
        start = first.header_offset + 30 + len(first.filename) + len(first.extra)
        for member in archive.infolist():
            inside = member is first
            out.writestr(member.filename, bytes(changed[start : start + first.file_size]) if inside
                         else archive.read(member))  # fmt: skip
    with contextlib.suppress(UserError):  # nothing else may come out
        read_reinvent(path)


def test_an_import_is_a_prior_everywhere(made: tuple[Net, Path], tmp_path: Path) -> None:
    import_prior(made[1], tmp_path / "mine")
    assert (tmp_path / "mine" / WEIGHTS).is_file()
    with pytest.raises(UserError, match="holds a prior already"):
        import_prior(made[1], tmp_path / "mine")


@pytest.mark.parametrize(
    ("table", "message"),
    [("SMILES,log_prob\n[Xe],-3.0\n", "cannot write"), ("SMILES,log_prob\nCC,nan\n", r"\(nats, numbers\)")],
)
def test_a_table_that_cannot_be_compared_leaves_no_prior(made: Any, tmp_path: Path, table: str, message: str) -> None:
    check = tmp_path / "check.csv"
    check.write_text(table)
    with pytest.raises(UserError, match=message):
        import_prior(made[1], tmp_path / "mine", check)
    assert not (tmp_path / "mine").exists()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
