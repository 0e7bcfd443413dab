"""From files of molecules to a corpus: one streaming pass, spread over processes, in the memory of a few chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from chemmara.chemistry.files import is_list, read_records
from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.language.corpus import HELD_OUT, Corpus, CorpusWriter, hash_smiles
from chemmara.language.tokenizers import TOKENIZERS, UnreadableText
from chemmara.language.vocabulary import END, SPECIAL, Vocabulary
from chemmara.processes import in_order
from chemmara.wording import counted

CHUNK = 2000
EXAMPLES = 5
CULPRITS = 8

Line = tuple[str, str]
"""Text of a molecule, and where it stands."""
Converted = tuple[list[str] | None, str, str]
"""(tokens, canonical SMILES, example), or (None, reason, example)."""


@dataclass
class Refusals:
    """Lines that could not be used: how many for which reason, with a few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    culprits: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str, culprits: Iterable[str] = ()) -> None:
        self.counts[reason] += 1
        self.culprits.setdefault(reason, Counter()).update(culprits)
        known = self.examples.setdefault(reason, [])
        if len(known) < EXAMPLES:
            known.append(example)

    def describe(self) -> list[str]:
        """One line a reason, for the terminal."""
        return [
            f"{counted(count, 'line')} left out: {reason}{self._named(reason)} "
            f"(for example {'; '.join(self.examples[reason][:3])})"
            for reason, count in self.counts.most_common()
        ]

    def _named(self, reason: str) -> str:
        found = self.culprits[reason].most_common()
        if not found:
            return ""
        more = f" and {len(found) - CULPRITS} more" if len(found) > CULPRITS else ""
        return " " + ", ".join(f"{name} ({count:,})" for name, count in found[:CULPRITS]) + more


class AllHeldOut(UserError):
    """Every molecule fell to the part that is held out."""

    def __init__(self) -> None:
        super().__init__("all molecules are held out, none is left; hold out a smaller share")


def prepare(
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    tokenizer: str = "smiles",
    vocabulary: Vocabulary | None = None,
    max_tokens: int = 128,
    column: str | None = None,
    keep_as_written: bool = False,
    workers: int = 1,
    holdout: float = 0.0,
) -> tuple[Corpus, Refusals]:
    """Read files of molecules into a corpus in ``folder``; says which lines were left out and why.

    Without ``vocabulary`` the tokens found make one, in the order of first appearance. SMILES are canonicalized unless
    ``keep_as_written``. ``holdout`` is the share of molecules that go to a second corpus in ``folder/held_out``,
    chosen by hash, so that every copy of a molecule falls on one side. Raises :class:`UserError` if no line can be
    used; nothing is written then. Raises :class:`AllHeldOut` if all of a few molecules fell on the other side.
    """
    folder = Path(folder)
    if column and all(is_list(Path(file)) for file in files):  # beside tables there may be lists
        raise UserError(f"'{files[0]}' is no table: leave out --column, or name it .csv or .tsv")
    name = TOKENIZERS[vocabulary.tokenizer_name if vocabulary else tokenizer].name
    convert = partial(_convert_chunk, tokenizer=name, max_tokens=max_tokens, keep_as_written=keep_as_written)
    tokens = vocabulary.tokens if vocabulary else SPECIAL
    intake = _Intake({token: number for number, token in enumerate(tokens)}, fixed=vocabulary is not None)
    with ExitStack() as stack:
        writers = [stack.enter_context(CorpusWriter(folder))]
        if holdout:
            writers.append(stack.enter_context(CorpusWriter(folder / HELD_OUT)))
        for chunk in in_order(convert, _chunks(_lines(files, column), CHUNK), workers):
            intake.add(chunk, writers, holdout)
        if not writers[0].count:
            raise AllHeldOut if writers[-1].count else _unusable(files, intake.refusals)
        for writer in writers:
            writer.finish({"tokens": list(intake.numbers), "tokenizer": name})
    return Corpus(folder), intake.refusals


def _unusable(files: Sequence[str | Path], refusals: Refusals) -> UserError:
    why = f": {refusals.describe()[0]}" if refusals.counts else ""
    return UserError(f"no usable molecule in {', '.join(map(str, files))}{why}")


def _lines(files: Sequence[str | Path], column: str | None) -> Iterator[Line]:
    for path in files:
        for record in read_records(path, column, blanks=True):
            yield record.smiles, f"{Path(path).name} line {record.line}"


def _chunks(items: Iterable[Line], size: int) -> Iterator[list[Line]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _convert_chunk(chunk: list[Line], tokenizer: str, max_tokens: int, keep_as_written: bool) -> list[Converted]:
    """Tokens of each line, or why there are none. Runs in a worker process."""
    split = TOKENIZERS[tokenizer].item().split
    results: list[Converted] = []
    for text, place in chunk:
        reading = read(text)
        example = f"{place}: {text[:60]}"
        if reading.molecule is None:
            results.append((None, "not a valid molecule" if text else "empty or unreadable", example))
            continue
        canonical = reading.molecule.smiles
        try:
            tokens = split(text if keep_as_written else canonical)
        except UnreadableText:
            results.append((None, f"no {tokenizer} tokens for it", example))
            continue
        if len(tokens) > max_tokens:
            results.append((None, f"more than {max_tokens} tokens", example))
        else:
            results.append((tokens, canonical, example))
    return results


class _Intake:
    """Gives ids to tokens as they appear, refuses what cannot be used, and shares the rest out to the writers."""

    def __init__(self, numbers: dict[str, int], fixed: bool) -> None:
        self.numbers, self.fixed, self.refusals = numbers, fixed, Refusals()

    def add(self, chunk: list[Converted], writers: list[CorpusWriter], holdout: float) -> None:
        for tokens, text, example in chunk:
            if tokens is None:
                self.refusals.add(text, example)
                continue
            unknown = dict.fromkeys(token for token in tokens if token not in self.numbers)
            if unknown and self.fixed:
                self.refusals.add("tokens outside the vocabulary", example, list(unknown))
                continue
            for token in unknown:
                self.numbers[token] = len(self.numbers)
            code = hash_smiles(text)
            # The low bits decide, so that the choice depends on the molecule alone.
            held = code % 100_000 < holdout * 100_000
            writers[1 if held else 0].append([*map(self.numbers.__getitem__, tokens), END], code)
        for writer in writers:
            writer.flush()
