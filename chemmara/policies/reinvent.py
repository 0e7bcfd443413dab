"""Priors of REINVENT 4 (its classic model, model type "Reinvent"): import and export.

The two programs differ in three places, and all are met exactly:

- Tokens. REINVENT's softmax runs over its start token ``^`` too, which chemmara never draws; an imported vocabulary
  therefore holds ``^`` a second time, as an ordinary token (the tokenizer ``reinvent`` leaves it out of the text).
- Padding. REINVENT pads with its end token ``$`` and counts what comes after the first one: its models learn that ``$``
  follows ``$``. A network that never saw text after the end gets a latch when it is exported (:func:`_latched`).
- Layer normalisation there runs over the whole sequence, padding included, so that no token's probability depends on
  the tokens before it alone: refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemmara.errors import UserError
from chemmara.language.tokenizers import REINVENT_END, REINVENT_START
from chemmara.language.vocabulary import END, PAD, SPECIAL, START, Vocabulary
from chemmara.policies.foreign import Husk, read_foreign

MODEL = "reinvent.models.reinvent.models"
HUSKS = (
    (f"{MODEL}.vocabulary", "SMILESTokenizer"),
    (f"{MODEL}.vocabulary", "Vocabulary"),
    ("reinvent.models.meta_data", "ModelMetaData"),
    ("uuid", "UUID"),
)
CELLS = ("lstm", "gru")
KEPT = ("origina_data_source", "creation_date", "comments")
MAX_LAYERS = 64
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ReinventPrior:
    """What a ``.prior`` of REINVENT 4 holds: weights under its own names, tokens in id order."""

    cell: str
    layers: int
    hidden_size: int
    embedding_size: int
    dropout: float
    max_sequence_length: int
    tokens: tuple[str, ...]
    weights: Weights
    metadata: dict[str, Any]


def read_reinvent(path: str | Path) -> ReinventPrior:
    """Read a ``.prior`` without running any code of it. Raises :class:`UserError` with what is wrong or refused."""
    content = read_foreign(path, HUSKS)
    try:
        return _checked(content)
    except UserError as error:
        raise UserError(f"'{path}' cannot be imported: {error}") from None


def _checked(content: Any) -> ReinventPrior:
    if not isinstance(content, dict):
        raise UserError("it holds no table")
    kind = content.get("model_type", "Reinvent" if "network" in content else "of another kind")
    if kind != "Reinvent":
        raise UserError(f"its model is {str(kind)[:40]}; only the classic model (Reinvent) can be imported")
    missing = [key for key in ("network", "network_params", "vocabulary", "max_sequence_length") if key not in content]
    if missing:
        raise UserError(f"it has no '{missing[0]}'")
    shape = content["network_params"]
    if not isinstance(shape, dict):
        raise UserError("its network_params are no table")
    if shape.get("layer_normalization"):
        raise UserError(
            "layer_normalization = true: REINVENT then normalises over the whole sequence, padding included, "
            "which no model that writes token by token can follow"
        )
    cell = str(shape.get("cell_type", "gru")).lower()
    if cell not in CELLS:
        raise UserError(f"cell type '{cell[:40]}'; known: {', '.join(CELLS)}")
    dropout = shape.get("dropout", 0.0)
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise UserError(f"dropout {str(dropout)[:40]}")
    tokens = _tokens(content["vocabulary"])
    prior = ReinventPrior(
        cell=cell,
        layers=_number(shape, "num_layers", 3, MAX_LAYERS),
        hidden_size=_number(shape, "layer_size", 512, 16384),
        embedding_size=_number(shape, "embedding_layer_size", 256, 8192),
        dropout=float(dropout),
        max_sequence_length=_number(content, "max_sequence_length", 256, 10**6),
        tokens=tokens,
        weights=content["network"],
        metadata=_metadata(content.get("metadata")),
    )
    _check_weights(prior)
    return prior


def _number(table: dict[str, Any], key: str, default: int, largest: int) -> int:
    value = table.get(key, default)
    if type(value) is not int or not 1 <= value <= largest:
        raise UserError(f"{key} is {str(value)[:40]}")
    return value


def _tokens(vocabulary: Any) -> tuple[str, ...]:
    """Tokens in id order, from today's table or from the object of older files (which maps both ways)."""
    if isinstance(vocabulary, Husk):
        state = getattr(vocabulary, "state", None)
        table = state.get("_tokens") if isinstance(state, dict) else None
    else:
        table = vocabulary.get("tokens") if isinstance(vocabulary, dict) else None
    if not isinstance(table, dict):
        raise UserError("its vocabulary is no table of tokens")
    numbers = {token: number for token, number in table.items() if isinstance(token, str)}
    if not all(type(number) is int for number in numbers.values()):
        raise UserError("its vocabulary has ids that are no whole numbers")
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError("the ids of its tokens are not 0, 1, 2, ... without a gap")
    absent = [token for token in (REINVENT_END, REINVENT_START) if token not in numbers]
    if absent:
        raise UserError(f"its vocabulary has no '{absent[0]}'")
    bad = [token for token in numbers if token in SPECIAL or not token or not token.isprintable()]
    if bad:
        raise UserError(f"its vocabulary has the token {bad[0][:40]!r}")
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _metadata(metadata: Any) -> dict[str, Any]:
    """The lines of the metadata that are plain text or numbers."""
    if isinstance(metadata, Husk):
        metadata = getattr(metadata, "state", None)
    if not isinstance(metadata, dict):
        return {}
    kept = {key: metadata.get(key) for key in KEPT}
    comments = kept["comments"] if isinstance(kept["comments"], list) else []
    plain = {key: value for key, value in kept.items() if isinstance(value, (str, float)) and _finite(value)}
    return {**plain, "comments": [text[:200] for text in comments[:20] if isinstance(text, str)]}


def _finite(value: str | float) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _shapes(prior: ReinventPrior) -> dict[str, tuple[int, ...]]:
    gates = {"lstm": 4, "gru": 3}[prior.cell] * prior.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"_embedding.weight": (len(prior.tokens), prior.embedding_size)}
    for layer in range(prior.layers):
        width = prior.hidden_size if layer else prior.embedding_size
        shapes[f"_rnn.weight_ih_l{layer}"] = (gates, width)
        shapes[f"_rnn.weight_hh_l{layer}"] = (gates, prior.hidden_size)
        shapes[f"_rnn.bias_ih_l{layer}"] = shapes[f"_rnn.bias_hh_l{layer}"] = (gates,)
    shapes["_linear.weight"] = (len(prior.tokens), prior.hidden_size)
    shapes["_linear.bias"] = (len(prior.tokens),)
    return shapes


def _check_weights(prior: ReinventPrior) -> None:
    """Raise :class:`UserError` unless the weights are those that the parameters promise, and finite."""
    weights, shapes = prior.weights, _shapes(prior)
    if not isinstance(weights, dict):
        raise UserError("its network is no table of weights")
    for name, shape in shapes.items():
        found = weights.get(name)
        if not isinstance(found, np.ndarray):
            raise UserError(f"its network has no '{name}'")
        if found.shape != shape:
            raise UserError(f"'{name}' has shape {found.shape} where its parameters say {shape}")
        if not np.isfinite(found).all():
            raise UserError(f"'{name}' holds numbers that are not finite")
    foreign = [str(name) for name in weights if name not in shapes]
    if foreign:
        raise UserError(f"'{foreign[0][:80]}' is none of the weights of a {prior.cell}")


def to_policy(prior: ReinventPrior) -> Any:
    """The same distribution as a policy of chemmara, in float32."""
    import torch

    from chemmara.policies.policy import POLICIES

    rest = [token for token in prior.tokens if token not in (REINVENT_START, REINVENT_END)]
    vocabulary = Vocabulary([*SPECIAL, REINVENT_START, *rest], "reinvent")
    sources = [prior.tokens.index(token) for token in (REINVENT_START, REINVENT_END, REINVENT_START, *rest)]
    entry, parameters = POLICIES.build_parameters(
        {
            "name": prior.cell, "embedding_size": prior.embedding_size, "hidden_size": prior.hidden_size,
            "layers": prior.layers, "dropout": prior.dropout,
        },
        "network_params",
    )  # fmt: skip
    with torch.device("meta"):
        policy = entry.item(vocabulary, parameters)
    state = {}
    for name in policy.state_dict():
        source = prior.weights[_theirs(name, prior.cell)]
        if name.startswith(("embedding.", "output.")):  # the padding's row is never used
            source = np.concatenate([np.zeros_like(source[:1]), source[sources]])
        state[name] = torch.from_numpy(np.ascontiguousarray(source))
    policy.load_state_dict(state, assign=True)
    return policy.eval()


def _theirs(name: str, cell: str) -> str:
    """REINVENT's name of a weight."""
    first, _, rest = name.partition(".")
    return f"{ {'embedding': '_embedding', cell: '_rnn', 'output': '_linear'}[first] }.{rest}"


def from_policy(policy: Any, max_sequence_length: int = 256, comment: str = "") -> ReinventPrior:
    """A policy in REINVENT's layout. Raises :class:`UserError` for one that its classic model cannot express."""
    if policy.architecture not in CELLS:
        raise UserError(f"REINVENT's classic model is an lstm or a gru; this prior is a {policy.architecture}")
    vocabulary: Vocabulary = policy.vocabulary
    if vocabulary.tokenizer_name not in ("smiles", "reinvent"):
        raise UserError(f"REINVENT reads SMILES; this prior writes {vocabulary.tokenizer_name}")
    own = [REINVENT_START, REINVENT_END]
    rest = [token for token in vocabulary.tokens[3:] if token not in own]
    lost = [token for token in rest if len(token) > 1 and vocabulary.tokenizer_name == "smiles" and "%(" in token]
    lost += [token for token in vocabulary.tokens[3:] if token == REINVENT_END]
    if lost:
        raise UserError(f"REINVENT's tokenizer has no token '{lost[0]}'")
    p = policy.parameters_
    state = {name: value.detach().cpu().float().numpy() for name, value in policy.state_dict().items()}
    inputs = [END, START, *(vocabulary.tokens.index(token) for token in rest)]
    known = REINVENT_START in vocabulary.tokens
    outputs = [END, vocabulary.tokens.index(REINVENT_START) if known else PAD, *inputs[2:]]
    weights: Weights = {}
    for name, value in state.items():
        rows = inputs if name.startswith("embedding.") else outputs if name.startswith("output.") else None
        weights[_theirs(name, policy.architecture)] = value if rows is None else value[rows]
    if not known:
        weights["_linear.weight"][1], weights["_linear.bias"][1] = 0.0, NEVER
    prior = ReinventPrior(
        policy.architecture, p.layers, p.hidden_size, p.embedding_size, p.dropout, max_sequence_length,
        (REINVENT_END, REINVENT_START, *rest), weights, {"comments": [comment] if comment else []},
    )  # fmt: skip
    return prior if stays_at_its_end(policy) else _latched(prior)


NEVER = -1e4  # a logit: the probability is 0 in float32
SURE = 1e-3  # nats: log-probability of the end token after itself that passes for one
LATCH = 60.0  # sigmoid(60) is 1 and sigmoid(-60) is 1e-26 in float32


def stays_at_its_end(policy: Any, n: int = 64) -> bool:
    """Whether the end token follows itself with certainty, as REINVENT's padding asks."""
    import torch
    from torch.nn import functional as F

    was, policy.precision = policy.precision, "float32"
    try:
        with torch.no_grad():
            ids = policy.sample(n, generator=torch.Generator(device=policy.device).manual_seed(0)).ids
            long = F.pad(ids, (0, 8), value=PAD).masked_fill(F.pad(ids, (0, 8), value=PAD) == PAD, END)
            after = (long == END) & (F.pad(long[:, :-1], (1, 0), value=START) == END)
            return bool(policy.token_log_probs(long)[after].min() > -SURE) if bool(after.any()) else False
    finally:
        policy.precision = was


def _latched(prior: ReinventPrior) -> ReinventPrior:
    """The same network with one more unit a layer and one more number a token, which hold it at its end.

    The new number is 1 for the end token and 0 for any other. It switches the new unit of the first layer on, that one
    the next layer's, and the last one lifts the end token's logit above all others. Before the end the new units are
    exactly 0 and change nothing.
    """
    old, h = prior.weights, prior.hidden_size
    gates = {"lstm": 4, "gru": 3}[prior.cell]
    new: Weights = {"_embedding.weight": np.pad(old["_embedding.weight"], ((0, 0), (0, 1)))}
    new["_embedding.weight"][0, -1] = 1.0

    def widen(weight: NDArray[np.float32], column: bool) -> NDArray[np.float32]:
        parts = weight.reshape(gates, h, -1)
        wide = np.pad(parts, ((0, 0), (0, 1), (0, int(column))))
        return wide.reshape(gates * (h + 1), -1) if weight.ndim == 2 else wide.reshape(-1)

    for k in range(prior.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            key = f"_rnn.{name}_l{k}"
            new[key] = widen(old[key], column=name.startswith("weight"))
        units = [gate * (h + 1) + h for gate in range(gates)]
        weight, bias = new[f"_rnn.weight_ih_l{k}"], new[f"_rnn.bias_ih_l{k}"]
        if prior.cell == "lstm":  # gates: input, forget, candidate, output
            bias[units[0]], weight[units[0], -1] = -LATCH, 4 * LATCH
            weight[units[2], -1] = LATCH
            bias[units[1]] = bias[units[3]] = LATCH
        else:  # gates: reset, update, candidate; update 1 keeps the state
            bias[units[1]], weight[units[1], -1] = LATCH, -4 * LATCH
            weight[units[2], -1] = LATCH
    new["_linear.weight"] = np.pad(old["_linear.weight"], ((0, 0), (0, 1)))
    new["_linear.weight"][0, -1] = -NEVER
    new["_linear.bias"] = old["_linear.bias"]
    return ReinventPrior(
        prior.cell, prior.layers, h + 1, prior.embedding_size + 1, prior.dropout, prior.max_sequence_length,
        prior.tokens, new, prior.metadata,
    )  # fmt: skip
