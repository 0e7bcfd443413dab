"""One HTTP request with bounds on time and size, and the patience that a busy service asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from chemmara.lazy import lazy

# The standard library's, yet slow to import, and only one component wants them.
emails: Any = lazy("email.utils")
client: Any = lazy("http.client")
urlerror: Any = lazy("urllib.error")
urlrequest: Any = lazy("urllib.request")

MAX_BYTES = 1 << 24
"""Longest answer that is read."""

BUSY = (429, 502, 503, 504)
_FIRST_WAIT_S = 0.5
_HANGING_UP = (BrokenPipeError, ConnectionAbortedError, ConnectionResetError)


class Refused(Exception):
    """The service answered with an HTTP status that is an error. ``status`` says which."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(Exception):
    """No connection."""


class Unreadable(Exception):
    """An answer that makes no sense, or none in time."""


class Late(Unreadable):
    """No answer in time; the service may be at it still."""


class HungUp(Unreadable):
    """A connection that was made, and closed without an answer: the service restarts, or a molecule has killed it."""


def post(
    url: str,
    body: str,
    headers: Mapping[str, str],
    timeout: float,
    retries: int,
    longest_wait: float,
    once_hung_up: bool = False,
) -> dict[str, Any]:
    """POST a JSON text and return the JSON table that comes back.

    A service that is busy (429, 502, 503, 504), hangs up or cannot be reached is tried ``retries`` times again, after
    the wait in seconds that Retry-After asks for, else after waits that double; with ``once_hung_up`` not after it hung
    up. Raises the exceptions of this module.
    """
    for attempt in range(retries + 1):
        wait = min(_FIRST_WAIT_S * 2**attempt, longest_wait)
        try:
            return _once(url, body, headers, timeout)
        except (HungUp, Unreachable) as error:
            if attempt == retries or (once_hung_up and isinstance(error, HungUp)):
                raise
        except urlerror.HTTPError as error:
            with error:
                asked = retry_after(error.headers.get("Retry-After"))
                phrase = " ".join(f"HTTP {error.code} {error.reason}".split())[:100]
            if error.code not in BUSY or attempt == retries:
                raise Refused(error.code, phrase) from None
            if asked is not None and asked > longest_wait:
                raise Refused(error.code, f"{phrase}, to be tried again after {asked:.0f} s") from None
            wait = wait if asked is None else asked
        time.sleep(wait)
    raise AssertionError("not reached")


def retry_after(text: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date; None without sense."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, float(emails.parsedate_to_datetime(text).timestamp()) - time.time())
    except (ValueError, TypeError):
        return None


def _once(url: str, body: str, headers: Mapping[str, str], timeout: float) -> dict[str, Any]:
    fixed = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urlrequest.Request(url, body.encode(), {**fixed, **headers}, method="POST")
    deadline = time.monotonic() + timeout
    late = Late(f"timed out after {timeout:g} s")
    try:
        with urlrequest.build_opener(_no_redirect()).open(request, timeout=timeout) as response:
            data = bytearray()
            while piece := response.read1(1 << 16):
                data += piece
                if len(data) > MAX_BYTES:
                    raise Unreadable(f"the answer is longer than {MAX_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise late
            if response.length:  # what is still missing of the announced length
                raise Unreadable("the connection ended within the answer")
    except urlerror.HTTPError:
        raise
    except TimeoutError:
        raise late from None
    except (urlerror.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise late from None
        if isinstance(reason, _HANGING_UP):
            raise HungUp("the connection was closed without an answer") from None
        raise Unreachable(f"cannot be reached: {getattr(reason, 'strerror', None) or reason}") from None
    except client.HTTPException as error:
        raise Unreadable(f"no proper HTTP answer ({type(error).__name__})") from None
    return _table(data)


def _table(data: bytearray) -> dict[str, Any]:
    try:
        table = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unreadable("the answer is no UTF-8 text") from None
    except (ValueError, RecursionError):
        raise Unreadable("the answer is no JSON") from None
    if not isinstance(table, dict):
        raise Unreadable("the answer is no JSON object")
    return table


def _no_redirect() -> Any:
    class NoRedirect(urlrequest.HTTPRedirectHandler):  # type: ignore[misc]
        """A redirect is an error: it would turn the POST into a GET and take the headers to another host."""

        def redirect_request(self, *arguments: Any, **named: Any) -> None:
            return None

    return NoRedirect()
