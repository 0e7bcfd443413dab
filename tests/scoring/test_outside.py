"""Outside oracles: whatever a program or a service does, each molecule has a value or a reason."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError, RunError
from chemmara.interrupts import Interrupted, Interrupts
from chemmara.scoring import protocol, work
from chemmara.scoring.component import Component
from chemmara.scoring.evaluation import Evaluation, MemoryStore, Task
from chemmara.scoring.executors import ProcessExecutor
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.programs import Program, ProgramEnded
from chemmara.scoring.web import retry_after

ORACLE = Path(__file__).with_name("example_oracle.py")
SMILES = ["CCO", "[Fe]", "CCCCN"]


def molecules(*smiles: str) -> list[Molecule]:
    return [molecule for text in smiles if (molecule := read(text).molecule) is not None]


def program(*arguments: object, **changes: Any) -> Component:
    command = [sys.executable, str(ORACLE), *map(str, arguments)]
    return work.build("executable", {"command": command, "endpoint": "length", **changes}, "scoring.component[0]")


def script(tmp_path: Path, text: str, **changes: Any) -> Component:
    path = tmp_path / "oracle.sh"
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return work.build("executable", {"command": [str(path)], **changes}, "scoring.component[0]")


# Programs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("null", "no value"),
        ("nan", "not a number (NaN)"),
        ("infinite", "not a finite number (inf)"),
        ("text", "not a number: '4'"),
        ("bool", "not a number: true or false"),
        ("no_values", "no value for 'length'"),
        ("other", "no value for 'length'"),
        ("error", "iron is no drug"),
        ("half_error", "too short"),
        ("skip", "no answer"),
        ("exit", "the program ended with code 3: cannot digest iron"),
        ("abort", "the program died of SIGABRT"),
        ("hang", "timed out after 0.4 s"),
    ],
)
def test_a_fault_costs_one_molecule_and_is_said(fault: str, reason: str) -> None:
    component = program(fault, timeout=0.4 if fault == "hang" else 30.0)
    found = component(molecules(*SMILES))
    assert [evaluation.value for evaluation in found if not evaluation.failed] == [3, 5]
    assert found[1].failed
    assert str(found[1].error).startswith(reason)
    assert component(molecules("CC"))[0].value == 2, "goes on afterwards"
    assert component(molecules("[Fe]"))[0].error == found[1].error, "whenever it is asked"


def test_text_on_standard_output_does_no_harm() -> None:
    assert [e.value for e in program("chatter")(molecules(*SMILES))] == [3, 4, 5]


def test_a_program_is_started_once(tmp_path: Path) -> None:
    component = program("", tmp_path / "count")
    for _ in range(3):
        component(molecules("C", "CC"))
    assert (tmp_path / "count").read_text().split().count("start") == 1


@pytest.mark.parametrize(
    ("fault", "changes", "message"),
    [
        ("dies_at_once", {}, "ended with code 1: no module named chemistry, before it answered the first line"),
        ("silent", {"start_timeout": 0.3}, "did not answer the first line within 0.3 s (start_timeout)"),
        ("version", {}, "speaks protocol 2, this version of chemmara speaks 1"),
        ("", {"endpoint": "lenght"}, "has no endpoint 'lenght'; did you mean 'length'?"),
    ],
)
def test_a_program_that_does_not_start_is_one_line(fault: str, changes: dict[str, Any], message: str) -> None:
    component = program(fault, **changes)
    with pytest.raises(ConfigError) as error:
        component(molecules(*SMILES))
    assert str(error.value).startswith("scoring.component[0].command: ")
    assert str(error.value).endswith(message)


def test_a_program_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'no-such-program' is no program that can be found"):
        work.build("executable", {"command": ["no-such-program"]}, "here")
    with pytest.raises(ConfigError, match="is not executable"):
        work.build("executable", {"command": [str(ORACLE)]}, "here")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(ConfigError, match=r"here\.command: .*cannot be started: Exec format error"):
        work.build("executable", {"command": [str(broken)]}, "here")(molecules("C"))


def test_the_error_of_a_start_reaches_the_caller_from_a_worker() -> None:
    table = {"component": [{"name": "executable", "command": [sys.executable, str(ORACLE), "version"],
                            "transform": {"name": "clip", "low": 0, "high": 9}}]}  # fmt: skip
    with ProcessExecutor(1) as executor, pytest.raises(ConfigError, match="speaks protocol 2"):
        ScoringFunction(table, executor)(["C"])


def of_one_program(folder: Path, *endpoints: str, fault: str = "exit") -> dict[str, Any]:
    """A score of several endpoints of the program; it notes in ``folder``/count what it is asked."""
    command = [sys.executable, str(ORACLE), fault, str(folder / "count")]
    clip = {"name": "clip", "low": 0, "high": 10}
    parts = [
        {"name": "executable", "label": name, "endpoint": name, "command": command, "transform": clip}
        for name in endpoints
    ]
    return {"component": parts}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_endpoint_of_the_second_component_is_checked_at_the_start(tmp_path: Path, workers: int) -> None:
    table = of_one_program(tmp_path, "length", "carbon")
    executor = ProcessExecutor(workers) if workers else None
    with pytest.raises(ConfigError, match="has no endpoint 'carbon'; did you mean 'carbons'"):
        ScoringFunction(table, executor)(["CCO"])
    if executor:
        executor.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_endpoints_are_answered_by_one_call(tmp_path: Path, workers: int) -> None:
    table = of_one_program(tmp_path, "length", "carbons")
    executor = ProcessExecutor(workers) if workers else None
    scores = ScoringFunction(table, executor, chunk=2)(["CCO", "CCCCN", "CC"])
    if executor:
        executor.close()
    assert scores.raw["length"].tolist() == [3, 5, 2]
    assert scores.raw["carbons"].tolist() == [2, 4, 2]
    asked = [line for line in (tmp_path / "count").read_text().split() if line != "start"]
    assert sorted(asked) == ["CC", "CCCCN", "CCO"]
    failed = ScoringFunction(table)(["[Fe]"])
    assert failed.errors[0].count("the program ended with code 3: cannot digest iron") == 2  # type: ignore[union-attr]


def test_time_limits_of_two_endpoints_are_two(tmp_path: Path) -> None:
    table = of_one_program(tmp_path, "length", "carbons")
    for part, timeout in zip(table["component"], (0.2, 60.0), strict=True):
        part["command"] = [*part["command"][:2], "slow", *part["command"][3:]]
        part["timeout"] = timeout
    scores = ScoringFunction(table)(["[Fe]"])
    assert str(scores.errors[0]).count("timed out after 0.2 s") == 1
    assert scores.raw["carbons"].tolist() == [0]


def test_a_file_in_two_places_is_one_oracle(tmp_path: Path) -> None:
    table = of_one_program(tmp_path, "length", "length")
    (tmp_path / "example_oracle.py").write_text(ORACLE.read_text())
    command = table["component"][1]["command"]
    table["component"][1] |= {"label": "again", "command": [command[0], str(tmp_path / ORACLE.name), *command[2:]]}
    scores = ScoringFunction(table)(["CCO"])
    assert scores.raw["again"].tolist() == [3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reason_for_all_endpoints_reaches_each(tmp_path: Path, workers: int) -> None:
    table = of_one_program(tmp_path, "length", "carbons")
    for part in table["component"]:
        part["command"][2] = "plain_error"
    executor = ProcessExecutor(workers) if workers else None
    scores = ScoringFunction(table, executor)(["[Fe]"])
    if executor:
        executor.close()
    assert str(scores.errors[0]).count("iron is no drug") == 2


def test_an_id_is_a_number_however_it_is_written() -> None:
    assert program("float_id", timeout=30)(molecules("[Fe]"))[0].value == 4


def test_an_unknown_id_is_said() -> None:
    found = program("text_id", timeout=0.4)(molecules("[Fe]"))
    assert found[0].error == 'timed out after 0.4 s; it answered with the id "1", not 1'


def test_one_endpoint_known_only_the_other_is_recorded(tmp_path: Path) -> None:
    command = [sys.executable, str(ORACLE)]
    clip = {"name": "clip", "low": 0, "high": 10}
    parts = [
        {"name": "executable", "label": name, "endpoint": name, "command": command, "transform": clip}
        for name in ("length", "carbons")
    ]
    store = MemoryStore()
    ScoringFunction({"component": parts[:1]}, store=store)(["CCO"])
    both = ScoringFunction({"component": parts}, store=store)
    keys = [component.spec.key for component in both.settings.components]
    store.record(keys[0], [("CCO", Evaluation(9.0))])
    scores = both(["CCO", "CC"])
    assert scores.raw["length"].tolist() == [9, 2], "what is known is not asked again"
    assert scores.raw["carbons"].tolist() == [2, 2]


def test_identity_follows_the_files_and_not_their_place(tmp_path: Path) -> None:
    keys = []
    for folder, text in (("a", "exit 0\n"), ("b", "exit 0\n"), ("c", "exit 1\n")):
        (tmp_path / folder).mkdir()
        built = script(tmp_path / folder, text, timeout=float(len(keys) + 1))
        keys.append(work.spec_of("executable", built).key)
    assert keys[0] == keys[1] != keys[2]


def test_a_file_beside_the_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ORACLE.read_text())
    table = {"component": [{"name": "executable", "command": [sys.executable, "mine.py"], "endpoint": "length",
                            "transform": {"name": "clip", "low": 0, "high": 10}}]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps({"scoring": table}))
    assert ScoringFunction.from_config(tmp_path / "c.json")(["CCO"]).raw["executable"].tolist() == [3]


def test_a_file_of_the_working_directory_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "mine.py").write_text(ORACLE.read_text())
    (tmp_path / "python").write_text("not the interpreter, though its name is that of one")
    monkeypatch.chdir(tmp_path)
    given = program().parameters.model_copy(update={"command": ["python", "mine.py", "-x"]})
    found = type(program()).resolve(given, tmp_path / "configs")
    assert found.command == ["python", str(tmp_path / "mine.py"), "-x"]


def test_the_shell_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
    text = page.split("```sh\n#!/bin/sh\n")[1].split("```")[0]
    smiles = ["CCO", r"F/C=C/F", r"F/C=C\F", "c1cc[nH]c1", "[Na+].[Cl-]"]
    assert [e.value for e in script(tmp_path, text, endpoint="length")(molecules(*smiles))] == [3, 7, 7, 10, 11]


def test_the_python_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
    path = tmp_path / "oracle.py"
    path.write_text(page.split("```python\n")[1].split("```")[0])
    component = work.build("executable", {"command": [sys.executable, str(path)], "endpoint": "rings"}, "here")
    found = component(molecules("c1ccccc1", "CCO", "[Fe]"))
    assert [e.value for e in found[:2]] == [1, 0]
    assert found[2].error == "no carbon"


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    running = Program(["/bin/sh", "-c", f"(while :; do touch {marker}; sleep 0.05; done) & echo up; cat"])
    assert running.line(time.monotonic() + 10) == b"up"
    running.kill()
    time.sleep(0.15)
    marker.unlink(missing_ok=True)
    time.sleep(0.3)
    assert sys.platform != "linux" or not marker.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_ends_though_others_hold_its_pipe() -> None:
    """One that a thread has started ends, too; one that has left its parent is beyond reach, and is not waited for."""
    text = (
        "import subprocess, threading\n"
        "def work():\n"
        "    subprocess.run(['sh', '-c', 'setsid sleep 30 & echo $!'])\n"
        "    child = subprocess.Popen(['sleep', '30'])\n"
        "    print(child.pid, flush=True)\n"
        "    child.wait()\n"
        "threading.Thread(target=work).start()\n"
    )
    started = Program([sys.executable, "-c", text])
    orphan, child = (psutil.Process(int(started.line(time.monotonic() + 10))) for _ in range(2))
    while os.getpgid(orphan.pid) != orphan.pid:  # its own group, which setsid gives it
        time.sleep(0.01)
    try:
        begun = time.monotonic()
        started.kill()
        assert time.monotonic() - begun < 10
        child.wait(10)
        assert orphan.is_running()
    finally:
        orphan.kill()


ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_is_no_failure_of_a_molecule() -> None:
    """A terminal sends Ctrl-C to the group of the command, a cluster SIGTERM to all that there is."""
    started = Program([sys.executable, "-c", ECHO])
    started.send("ready")
    assert started.line(time.monotonic() + 10) == b"ready"
    assert os.getpgid(started._process.pid) != os.getpgrp()
    with Interrupts(grace=60.0) as interrupts:
        for pid in (os.getpid(), started._process.pid):
            os.kill(pid, signal.SIGTERM)
        with pytest.raises(Interrupted):
            started.line(time.monotonic() + 10)
        assert interrupts.requested
    killed = Program([sys.executable, "-c", ECHO])
    os.kill(killed._process.pid, signal.SIGTERM)
    with pytest.raises(ProgramEnded, match="died of SIGTERM"):  # by somebody who wanted it dead
        killed.line(time.monotonic() + 10)


@pytest.mark.skipif(sys.platform != "linux", reason="needs coreutils")
def test_a_program_may_stop_what_it_has_started() -> None:
    started = Program(["sh", "-c", "timeout 0.1 sleep 30; echo done"])
    assert started.line(time.monotonic() + 10) == b"done"


@pytest.mark.parametrize("first", ['read line; echo \'{"protocol": 1, "endpoints": ["score"]}\'; read line\n', ""])
def test_a_program_that_talks_and_never_answers_is_late(tmp_path: Path, first: str) -> None:
    flood = script(
        tmp_path,
        f"{first}while true; do echo '{{\"id\": 0}}'; done\n",
        timeout=0.3,
        start_timeout=30.0 if first else 0.3,
    )
    if first:
        assert flood(molecules("C"))[0].error == "timed out after 0.3 s"
    else:
        with pytest.raises(ConfigError, match="did not answer the first line within"):
            flood(molecules("C"))


def test_a_slow_start_is_nobodys_time_out(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(f"import time\ntime.sleep(1.5)\n{ORACLE.read_text()}")
    command = [sys.executable, str(slow)]
    spec = work.spec_of("executable", work.build("executable", {"command": command, "endpoint": "length"}, "here"))
    with ProcessExecutor(1, timeout=1.0) as executor:
        ((_, found),) = executor.run([Task(spec, ("CCO", "CC"))])
    assert [evaluation.value for evaluation in found] == [3, 2]


def test_a_molecule_that_kills_a_program_that_was_just_started_is_asked_once(tmp_path: Path) -> None:
    command = [sys.executable, str(ORACLE), "exit", str(tmp_path / "count")]
    spec = work.spec_of("executable", work.build("executable", {"command": command, "endpoint": "length"}, "here"))
    with ProcessExecutor(1, timeout=30.0) as executor:
        ((_, found),) = executor.run([Task(spec, ("[Fe]",))])
    assert str(found[0].error).startswith("the program ended with code 3")
    assert (tmp_path / "count").read_text().split() == ["start", "[Fe]"]


def test_a_program_is_started_once_whichever_endpoint_is_missing(tmp_path: Path) -> None:
    table = of_one_program(tmp_path, "length", "carbons")
    score = ScoringFunction(table, store=(store := MemoryStore()))
    score(["CCO"])
    first, _ = (component.spec.key for component in score.settings.components)
    store.record(first, [("CC", Evaluation(2.0))])
    assert score(["CC"]).raw["carbons"].tolist() == [2]
    assert (tmp_path / "count").read_text().split().count("start") == 1


def test_a_time_limit_belongs_to_the_score_that_has_it(tmp_path: Path) -> None:
    table = of_one_program(tmp_path, "length", fault="hang")
    score = ScoringFunction(table)
    table["component"][0]["timeout"] = 1e-9
    hasty = ScoringFunction(table)
    assert score.settings.components[0].spec.key == hasty.settings.components[0].spec.key
    assert hasty(["[Fe]"]).errors == ["length: timed out after 1e-09 s"]
    assert score(["CCO"]).raw["length"].tolist() == [3]


def test_of_what_a_program_complains_the_end_is_kept() -> None:
    text = "import sys\nfor n in range(200_000): print('still here', n, file=sys.stderr)\nsys.exit('the reason')"
    chatty = Program([sys.executable, "-c", text])
    with pytest.raises(ProgramEnded, match=r"^ended with code 1: the reason$"):
        chatty.line(time.monotonic() + 30)
    assert len(chatty._errors) == 4096


def test_a_program_that_closes_its_output_is_ended() -> None:
    running = Program(["/bin/sh", "-c", "exec >&-; sleep 60"])
    with pytest.raises(ProgramEnded, match="closed its standard output"):
        running.line(time.monotonic() + 10)


@given(st.binary(max_size=60))
def test_no_line_breaks_the_parser(line: bytes) -> None:
    table = protocol.parse(line)
    if table is not None:
        assert isinstance(protocol.answer(table, "score"), Evaluation)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_any_answer_is_a_value_or_a_reason(value: Any) -> None:
    for table in ({"values": value}, {"values": {"score": value}}, {"error": value}):
        found = protocol.answer(table, "score")
        assert found.failed == (found.error is not None)
        assert math.isfinite(found.value) or (found.error and "\n" not in found.error)


# Services -------------------------------------------------------------------------------------------------------------

Reply = Callable[[Any, list[str]], None]


class Server:
    """A service on the loopback interface that does what ``reply`` says."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.headers: list[Any] = []
        self.reply: Reply = good
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                smiles = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["smiles"]
                outer.requests.append(smiles)
                outer.headers.append(self.headers)
                outer.reply(self, smiles)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/score"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def component(self, **changes: Any) -> Component:
        return work.build("rest", {"url": self.url, "endpoint": "length", **changes}, "scoring.component[0]")


def send(handler: Any, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def results(smiles: list[str]) -> list[Any]:
    return [{"values": {"length": len(text), "carbons": text.count("C")}} for text in smiles]


def good(handler: Any, smiles: list[str]) -> None:
    send(handler, json.dumps({"protocol": 1, "results": results(smiles)}).encode())


def at_iron(act: Reply) -> Reply:
    return lambda handler, smiles: (act if "[Fe]" in smiles else good)(handler, smiles)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def replies(status: int = 200, body: bytes = b"", **headers: str) -> Reply:
    return lambda handler, smiles: send(handler, body, status, **headers)


def hangs(handler: Any, smiles: list[str]) -> None:
    time.sleep(0.6)


def drips(handler: Any, smiles: list[str]) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(12):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def hangs_up(handler: Any, smiles: list[str]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def hangs_up_at_once(handler: Any, smiles: list[str]) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (replies(500), "HTTP 500 Internal Server Error"),
        (replies(400), "HTTP 400 Bad Request"),
        (replies(body=b"<html>"), "the answer is no JSON"),
        (replies(body=b"\xff\xfe"), "the answer is no UTF-8 text"),
        (replies(body=b"[1]"), "the answer is no JSON object"),
        (replies(body=b"{}"), "the answer is no table with protocol = 1"),
        (replies(body=b'{"protocol": 1, "results": []}'), "expected 1 results, got 0"),
        (replies(body=b'{"protocol": 1, "results": [4]}'), "the result is no JSON object"),
        (replies(body=b'{"protocol": 1, "results": [{"values": {"length": NaN}}]}'), "not a number (NaN)"),
        (replies(body=b'{"protocol": 1, "results": [{"error": "no iron"}]}'), "no iron"),
        (replies(body=b" " * ((1 << 24) + 9)), "the answer is longer than 16 MiB"),
        (replies(429, Retry_After="100"), "HTTP 429 Too Many Requests, to be tried again after 100 s"),
        (hangs, "timed out after 0.3 s"),
        (drips, "timed out after 0.3 s"),
        (hangs_up, "the connection ended within the answer"),
        (hangs_up_at_once, "the connection was closed without an answer"),
    ],
)
def test_a_fault_of_a_service_costs_one_molecule(server: Server, act: Reply, reason: str) -> None:
    server.reply = at_iron(act)
    late = "timed out" in reason
    component = server.component(timeout=0.3 if late else 30.0, longest_wait=0.05)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = component(molecules(*SMILES))
        assert component(molecules(*SMILES)) == found
    told = [str(each.message) for each in said if "did not answer for 3 molecules within 0.3 s" in str(each.message)]
    assert len(told) == late
    assert [evaluation.value for evaluation in found if not evaluation.failed] == [3, 5]
    assert str(found[1].error).startswith(reason)


def test_a_service_that_hangs_up_on_everything_is_one_line(server: Server) -> None:
    server.reply = hangs_up_at_once
    with pytest.raises(RunError, match="the connection was closed without an answer"):
        server.component(longest_wait=0.01, retries=2)(molecules(*SMILES))
    assert server.requests == [SMILES] * 3 + [["C"]] * 3


def test_a_molecule_that_kills_a_service_for_a_while_is_no_others_failure(server: Server) -> None:
    """Also as the very first request, alone in its batch."""
    gone: list[int] = []

    def killed(handler: Any, smiles: list[str]) -> None:
        if "[Fe]" in smiles:
            gone.append(2)
            handler.close_connection = True
        elif gone and gone[-1]:
            gone[-1] -= 1
            send(handler, b"", 503)
        else:
            good(handler, smiles)

    server.reply = killed
    component = server.component(longest_wait=0.01, retries=3)
    found = component(molecules("[Fe]"))
    assert found[0].error == "the connection was closed without an answer"
    assert [e.value for e in component(molecules(*SMILES)) if not e.failed] == [3, 5]


def test_a_busy_service_is_asked_again_after_the_wait_it_asks_for(server: Server) -> None:
    def busy(handler: Any, smiles: list[str]) -> None:
        first = len(server.requests) == 1
        send(handler, b"", 503, Retry_After="0") if first else good(handler, smiles)

    server.reply = busy
    assert [e.value for e in server.component()(molecules(*SMILES))] == [3, 4, 5]
    assert server.requests == [SMILES, SMILES]


def test_retry_after_is_seconds_or_a_date() -> None:
    from email.utils import formatdate

    assert retry_after("7") == 7
    assert retry_after(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405])
def test_a_refusal_at_the_start_is_one_line(server: Server, status: int) -> None:
    server.reply = replies(status, Location="http://127.0.0.1:9/elsewhere")
    with pytest.raises(RunError, match=rf"component\[0\]\.url: 'http://127.*' answers HTTP {status}"):
        server.component()(molecules(*SMILES))
    assert len(server.requests) == 1


def test_an_unreachable_service_is_one_line_at_the_start_and_a_reason_later(server: Server) -> None:
    component = server.component(retries=0)
    assert component(molecules("CC"))[0].value == 2
    server.http.shutdown()
    server.http.server_close()
    assert component(molecules("CC"))[0].error == "cannot be reached: Connection refused"
    with pytest.raises(RunError, match="cannot be reached: Connection refused"):
        server.component(retries=1, longest_wait=0.0)(molecules("CC"))


def of_one_service(server: Server, *changes: dict[str, Any]) -> dict[str, Any]:
    """A score of as many components of the service."""
    clip = {"name": "clip", "low": 0, "high": 10}
    fixed = {"name": "rest", "url": server.url, "endpoint": "length", "transform": clip}
    return {"component": [{**fixed, "label": f"part{i}", **each} for i, each in enumerate(changes)]}


def test_services_told_apart_by_a_header_are_two_oracles(server: Server) -> None:
    def by_header(handler: Any, smiles: list[str]) -> None:
        value = {"herg": 1, "sol": 2}[handler.headers["X-Model"]]
        answers = [{"values": {"length": value}} for _ in smiles]
        send(handler, json.dumps({"protocol": 1, "results": answers}).encode())

    server.reply = by_header
    score = ScoringFunction(of_one_service(server, *({"headers": {"X-Model": name}} for name in ("herg", "sol"))))
    scores = score(["CCO"])
    assert [scores.raw[name].tolist() for name in ("part0", "part1")] == [[1], [2]]
    plain, empty = (work.spec_of("rest", server.component(**more)) for more in ({}, {"headers": {}}))
    assert plain.key == empty.key != score.settings.components[0].spec.key


def test_each_endpoint_has_the_settings_of_its_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of the second alone, too, wherever the first has none."""
    monkeypatch.setenv("TOKEN", "123")
    secret = {"endpoint": "carbons", "secret_headers": {"X-Token": "TOKEN"}}
    ScoringFunction(of_one_service(server, {}, secret))(["CCO"])
    assert [headers["X-Token"] for headers in server.headers] == [None, "123"]


def test_settings_that_would_be_ignored_are_refused(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"component\[1\]\.timeout: 30\.0, but 1\.0 in scoring\.component\[0\]"):
        ScoringFunction(of_one_service(server, {"timeout": 1}, {"timeout": 30}))
    ScoringFunction(of_one_service(server, {"timeout": 1}, {"timeout": 1}))


def test_endpoints_of_a_service_are_answered_by_one_request(server: Server) -> None:
    clip = {"name": "clip", "low": 0, "high": 10}
    table = {"component": [{"name": "rest", "label": name, "endpoint": name, "url": server.url, "transform": clip}
                           for name in ("length", "carbons")]}  # fmt: skip
    scores = ScoringFunction(table)(["CCO", "CC"])
    assert scores.raw["carbons"].tolist() == [2, 2]
    assert server.requests == [["CCO", "CC"]]


def test_secrets_come_from_the_environment_and_stay_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"secret_headers\.Authorization: the environment variable TOKEN is not set"):
        server.component(secret_headers={"Authorization": "TOKEN"})
    monkeypatch.setenv("TOKEN", "Bearer 123")
    component = server.component(secret_headers={"Authorization": "TOKEN"}, headers={"X-Project": "7"})
    component(molecules("C"))
    assert (server.headers[0]["Authorization"], server.headers[0]["X-Project"]) == ("Bearer 123", "7")
    assert "Bearer" not in str(work.spec_of("rest", component))


ODD = ["file:///etc/passwd", "ftp://a/b", "http://", "localhost:80", "http://a:99999999/", "http://a b/"]


@pytest.mark.parametrize("url", ODD)
def test_an_odd_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no http:// or https:// address"):
        work.build("rest", {"url": url}, "here")
    with pytest.raises(ConfigError, match="one line of plain text"):
        work.build("rest", {"url": "http://a/", "headers": {"X": "a\r\nY: b"}}, "here")


# Functions ------------------------------------------------------------------------------------------------------------


def test_a_function_that_prints_does_not_disturb_the_worker() -> None:
    table = {"function": "example_scores:prints", "path": str(ORACLE.parent)}
    spec = work.spec_of("python", work.build("python", table, "here"))
    with ProcessExecutor(1) as executor:
        assert dict(executor.run([Task(spec, ("C", "CC"))])) == {0: [Evaluation(1.0), Evaluation(2.0)]}


def test_a_program_that_has_nothing_more_to_say_may_take_its_time_to_end() -> None:
    """As one that gives a GPU back: how it ends is asked for, not how long it takes."""
    code = "import os, time; os.close(1); time.sleep(1.5)"
    with pytest.raises(ProgramEnded) as ended:
        Program([sys.executable, "-c", code]).line(time.monotonic() + 60, patient=True)
    assert ended.value.well
    with pytest.raises(ProgramEnded) as ended:
        Program([sys.executable, "-c", code]).line(time.monotonic() + 60)
    assert not ended.value.well
