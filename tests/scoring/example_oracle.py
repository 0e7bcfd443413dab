"""An outside oracle for tests: the length of a SMILES and its carbons; misbehaves where the second argument says so.

Usage: example_oracle.py [FAULT [COUNTER]]. COUNTER is a file that gets a line for each start and each molecule.
"""

import json
import os
import sys
import time

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
COUNTER = sys.argv[2] if len(sys.argv) > 2 else os.devnull


def say(table):
    print(json.dumps(table), flush=True)


def count(text):
    with open(COUNTER, "a") as stream:
        stream.write(text + "\n")


def chatter():
    sys.stdout.flush()
    sys.stdout.buffer.write(b"loading \xff\xfe weights...\n\n[1, 2]\n{half a table\n" + b"x" * (3 << 20) + b"\n")
    sys.stdout.buffer.flush()


def act(number, index, smiles):
    """What goes wrong at iron, if anything, else the answer."""
    iron = smiles == "[Fe]"
    answer = {"id": number, "index": index, "values": {"length": len(smiles), "carbons": smiles.count("C")}}
    if FAULT == "chatter":
        chatter()
        say({"id": number - 1, "index": index, "values": {"length": -1}})
        say({"id": number, "index": 99, "values": {"length": -1}})
        say({"id": number, "index": True, "values": {"length": -1}})
    if not iron:
        return say(answer)
    changes = {
        "null": {"values": {"length": None}},
        "nan": {"values": {"length": float("nan")}},
        "infinite": {"values": {"length": float("inf")}},
        "text": {"values": {"length": "4"}},
        "bool": {"values": {"length": True}},
        "no_values": {"values": 3},
        "other": {"values": {"carbons": 0}},
        "error": {"error": "iron is\nno drug", "values": {"length": 4}},
        "plain_error": {"error": "iron is no drug", "values": {}},
        "text_id": {"id": str(number)},
        "float_id": {"id": float(number)},
        "half_error": {"error": {"length": "too short"}},
    }
    if FAULT == "exit":
        print("cannot digest iron", file=sys.stderr)
        os._exit(3)
    if FAULT == "abort":
        os.abort()
    if FAULT == "hang":
        time.sleep(60)
    if FAULT == "slow":
        time.sleep(1)
    if FAULT == "skip":
        return None
    return say({**answer, **changes.get(FAULT, {})})


def main():
    count("start")
    if FAULT == "dies_at_once":
        sys.exit("no module named chemistry")
    for line in sys.stdin:
        request = json.loads(line)
        if "hello" in request:
            if FAULT == "chatter":
                chatter()
            if FAULT != "silent":
                say({"protocol": 2 if FAULT == "version" else 1, "endpoints": ["length", "carbons"]})
            continue
        for index, smiles in enumerate(request["smiles"]):
            count(smiles)
            act(request["id"], index, smiles)
        if FAULT == "skip":
            say({"id": request["id"], "done": True})


main()
