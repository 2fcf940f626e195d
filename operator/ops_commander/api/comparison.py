"""Shadow comparison: how the answers of stable and candidate to the same requests are held against each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ops_commander.api.fields import Resource


class Comparison(Resource):
    """Stable and candidate are asked the same requests, and their answers are compared."""

    sample: Annotated[int, Field(ge=1, le=100)] = 10
    """Percentage of the requests that is compared."""
