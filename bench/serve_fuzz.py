"""`thinksmith serve tiny` against its own description: schemathesis writes requests, right and wrong ones, and looks at
every answer. Goals: at least 5,000 cases, no server error, every answer in its schema, every wrong request refused.

Right requests are kept short (4 tokens, 2 completions), so that what is measured is the server and not `tiny`.

    python bench/serve_fuzz.py [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TOKENS = 4
GOALS = {"cases": 5000, "server_errors": 0, "out_of_schema": 0, "wrong_accepted": 0}
_MOST = {"/v1/chat/completions": "max_completion_tokens", "/v1/completions": "max_tokens"}
_MOST |= {"/v1/responses": "max_output_tokens"}


def shorten(path: str, body: Any) -> None:
    """A right request, made to ask for little."""
    if not isinstance(body, dict):
        return
    if field := _MOST.get(path):
        body[field] = min(body.get(field) or TOKENS, TOKENS) if body.get(field) != 0 else 0
    elif path in ("/api/chat", "/api/generate"):
        body["options"] = {**(body.get("options") or {}), "num_predict": TOKENS}
    for name in ("n", "best_of"):
        if isinstance(body.get(name), (int, float)):
            body[name] = min(int(body[name]), 2)


def fuzz(address: str, cases: int, seed: int, tell: bool = False) -> dict[str, Any]:
    """About `cases` requests to the server at `address`. Counts of answers by status, and what was wrong, each with how
    to repeat it."""
    import requests
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis import GenerationMode, checks
    from schemathesis.core.failures import FailureGroup

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    posts = [each for each in operations if each.method.upper() == "POST"]
    every = [checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    every += [checks.response_schema_conformance, checks.response_headers_conformance, checks.negative_data_rejection]
    statuses: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    session = requests.Session()

    def one(operation: Any, mode: Any, count: int) -> None:
        @seeded(seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            if mode is GenerationMode.POSITIVE:
                shorten(operation.path, case.body)
            response = case.call(session=session, timeout=120)
            statuses[f"{operation.path} {response.status_code}"] += 1
            try:
                case.validate_response(response, checks=every)
            except FailureGroup as group:
                for failure in group.exceptions:
                    key = f"{type(failure).__name__} {operation.method} {operation.path} {response.status_code}"
                    wrong.setdefault(key, f"{failure}\n{case.as_curl_command()[:2000]}\n{response.text[:500]}")

        ask()
        if tell:
            print(f"{operation.method} {operation.path} {mode.name}: {sum(statuses.values())} cases", file=sys.stderr)

    share = max(1, cases // (2 * len(posts)))
    for operation in posts:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            one(operation, mode, share)
    for operation in operations:
        if operation not in posts:
            one(operation, GenerationMode.POSITIVE, max(1, share // 20))
    return {"statuses": dict(sorted(statuses.items())), "wrong": wrong}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures."""
    statuses, wrong = found["statuses"], found["wrong"]
    return {
        "cases": sum(statuses.values()),
        "server_errors": sum(count for name, count in statuses.items() if int(name.rsplit(" ", 1)[1]) >= 500),
        "out_of_schema": sum(not name.startswith(("ServerError", "AcceptedNegativeData")) for name in wrong),
        "wrong_accepted": sum(name.startswith("AcceptedNegativeData") for name in wrong),
    }


def main() -> None:
    from _result import finish
    from _servers import OURS, started

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="240 cases")
    parser.add_argument("--cases", type=int, default=5400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(OURS, folder, folder / "log") as running:
            cases = 240 if arguments.quick else arguments.cases
            found = fuzz(f"http://127.0.0.1:{running.port}", cases, arguments.seed, tell=True)
        log = (folder / "log").read_text(errors="replace")
    for what, how in found["wrong"].items():
        print(f"--- {what}\n{how}", file=sys.stderr)
    figures = summary(found) | {"tracebacks": log.count("while a request was served"), "statuses": found["statuses"]}
    figures["seconds"] = round(time.perf_counter() - began, 1)
    holds = all(figures[name] == 0 for name in GOALS if name != "cases") and figures["tracebacks"] == 0
    finish("serve_fuzz", figures, GOALS, holds and (arguments.quick or figures["cases"] >= GOALS["cases"]))
    sys.exit(not holds)


if __name__ == "__main__":
    main()
