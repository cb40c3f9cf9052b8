"""For Schemathesis: a valid request may be refused for a reason that no schema can have, and for no other."""

import re
from typing import Any

import schemathesis

REASONS = (
    r"document \d+ has no score",  # control characters only, and a form without room to say so
    r"the query has no text",
    r"instruction and query are [\d,]+ tokens too long",  # a schema counts no tokens
    r"begins with \[instruct\]",
    r"\d+ first texts for \d+ second ones",
    r"is not served here",  # with keys, OpenAPI does not say which models are
)


@schemathesis.check
def refused_for_a_reason(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    del ctx
    valid = case.meta is not None and case.meta.generation.mode.is_positive
    if valid and response.status_code == 422 and not any(re.search(why, response.text) for why in REASONS):
        raise AssertionError(f"a valid request was refused: {response.text}")
