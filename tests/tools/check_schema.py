"""Fails unless the JSON on standard input is as the JSON Schema in the file that is named says."""

import json
import sys

import jsonschema

schema = json.load(open(sys.argv[1], encoding="utf-8"))
jsonschema.validators.validator_for(schema)(schema).validate(json.load(sys.stdin))
