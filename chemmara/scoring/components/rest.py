"""A service on the web or on this machine as a component, by HTTP and JSON."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, RunError
from chemmara.scoring import protocol
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.web import HungUp, Late, Refused, Unreachable, Unreadable, post

_USERS_MISTAKE = (301, 302, 303, 307, 308, 401, 403, 404, 405)


class RestParameters(Parameters):
    """Parameters of a service."""

    url: str = Field(description="where batches are posted to, http:// or https://")
    endpoint: str = Field("score", min_length=1, description="which of the service's values this component takes")
    timeout: float = Field(60.0, gt=0, description="seconds for a request; what takes longer fails")
    retries: int = Field(3, ge=0, le=20, description="how often a busy or unreachable service is asked again")
    longest_wait: float = Field(60.0, ge=0, description="most seconds to wait before a retry, as Retry-After may ask")
    headers: dict[str, str] = Field(
        default_factory=dict, description="headers sent along, kept in the run's config; other ones, another oracle"
    )
    secret_headers: dict[str, str] = Field(
        default_factory=dict, description="headers whose value is in the environment variable named: written nowhere"
    )
    revision: str = Field("", description="a text of yours, to be changed when the service's values change")


@COMPONENTS.register("rest", RestParameters)
class Rest(Component):
    """An HTTP service that is posted batches of SMILES as JSON and returns values or reasons; docs/oracles.md.

    Components that differ in nothing but `endpoint` send each molecule once. A service that cannot be reached at
    the first request, or refuses it for good, ends the run with one line; later such a batch fails with the reason.
    """

    parameters: RestParameters
    bounds = (None, None)
    cost_us = 1e5
    example = "{ name = 'clip', low = 0, high = 10 }"

    def __init__(self, parameters: RestParameters, where: str) -> None:
        super().__init__(parameters, where)
        self.endpoint = parameters.endpoint
        self._answered = False
        self._warned = False
        try:
            parts = urlsplit(parameters.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good or not parameters.url.isascii() or not parameters.url.isprintable() or " " in parameters.url:
            raise ConfigError(f"{where}.url: '{parameters.url}' is no http:// or https:// address")
        self._headers = dict(parameters.headers)
        for header, variable in parameters.secret_headers.items():
            if not os.environ.get(variable):
                raise ConfigError(f"{where}.secret_headers.{header}: the environment variable {variable} is not set")
            self._headers[header] = os.environ[variable]
        for header, value in self._headers.items():
            if not header.replace("-", "").isalnum() or not header.isascii() or not value.isprintable():
                raise ConfigError(f"{where}: the header '{header}' or its value is not one line of plain text")

    def identity(self) -> dict[str, Any]:
        """The address, the endpoint, the user's revision and plain headers; neither secrets nor patience."""
        table = self.parameters.model_dump(mode="json", include={"url", "endpoint", "revision"})
        headers = {name.lower(): value for name, value in self.parameters.headers.items()}
        return {**table, "headers": headers} if headers else table

    def _score(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        smiles = [molecule.smiles for molecule in molecules]
        try:
            return self._ask(smiles)
        except HungUp as error:
            return self._one_by_one(smiles, error)
        except Unreachable as error:
            return [Evaluation(math.nan, str(error))] * len(smiles)  # asking for each alone would wait as often
        except (Refused, Unreadable) as error:
            if len(smiles) == 1:
                return [Evaluation(math.nan, str(error))]
            if isinstance(error, Late):
                self._warn_of_late_batches(len(smiles))
        return [evaluation for molecule in molecules for evaluation in self._score([molecule])]

    def _warn_of_late_batches(self, size: int) -> None:
        """Once: each of them is paid for twice, and nothing in the scores says so."""
        if not self._warned:
            warnings.warn(
                f"{self.where}.url: '{self.parameters.url}' did not answer for {size} molecules within "
                f"{self.parameters.timeout:g} s (timeout), and is asked for each of them again; "
                "lower execution.chunk or raise timeout",
                stacklevel=2,
            )
        self._warned = True

    def _one_by_one(self, smiles: list[str], fault: HungUp) -> list[Evaluation]:
        """After it hung up on a batch: a molecule may have killed it. Raises RunError for one that answers nothing."""
        if not self._answered and not self._alive():
            raise RunError(f"{self.where}.url: '{self.parameters.url}': {fault}")
        if len(smiles) == 1:
            return [Evaluation(math.nan, str(fault))]
        found: list[Evaluation] = []
        for text in smiles:
            try:
                found += self._ask([text], once_hung_up=True)
            except (Refused, Unreachable, Unreadable) as error:
                found.append(Evaluation(math.nan, str(error)))
        return found

    def _alive(self) -> bool:
        """Whether it does anything but hang up, asked with a molecule that should hurt nobody."""
        try:
            self._ask(["C"])
        except HungUp:
            return False
        except (Refused, Unreadable):
            pass
        return True

    def _ask(self, smiles: list[str], once_hung_up: bool = False) -> list[Evaluation]:
        given = self.parameters
        body = json.dumps({"protocol": protocol.VERSION, "smiles": smiles})
        try:
            table = post(given.url, body, self._headers, given.timeout, given.retries, given.longest_wait, once_hung_up)
        except Unreachable as error:
            if self._answered:
                raise
            raise RunError(f"{self.where}.url: '{given.url}' {error}") from None
        except Refused as error:
            if self._answered or error.status not in _USERS_MISTAKE:
                raise
            raise RunError(f"{self.where}.url: '{given.url}' answers {error}") from None
        results = table.get("results")
        if table.get("protocol") != protocol.VERSION or not isinstance(results, list):
            raise Unreadable(f"the answer is no table with protocol = {protocol.VERSION} and a list of results")
        self._answered = True
        if len(results) != len(smiles):
            raise Unreadable(f"expected {len(smiles)} results, got {len(results)}")
        return [
            protocol.answer(result, self.endpoint)
            if isinstance(result, dict)
            else Evaluation(math.nan, "the result is no JSON object")
            for result in results
        ]
