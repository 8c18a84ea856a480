"""What schemathesis is taught for our description."""

import json

import schemathesis
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    """A text is sent as it is; what should have been a text, as the line that it would be."""
    return value if isinstance(value, (str, bytes)) else json.dumps(value)


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """A description that OpenAPI 3.1 does not allow is not asked about."""
    OPENAPI_31_VALIDATOR.validate(raw_schema)
