"""The metrics of a record that its readers take: tables, pictures, reports, and the sizes of networks."""

from functools import cache
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as c

from swgctl.store import schema

WIDEST = 2**24  # observations and actions


def problem(metrics: dict) -> str | None:
    """The first of the metrics that readers cannot take, and why; None where there is none."""
    try:
        _schema().validate_python(metrics)
    except ValidationError as error:
        return schema.first_of(error, "metrics")
    return None


def _record(fields: dict[str, Any]) -> Any:
    """An object with some of these fields; a stage may have others, of any kind."""
    optional = {name: c.typed_dict_field(kind, required=False) for name, kind in fields.items()}
    return c.typed_dict_schema(optional, extra_behavior="allow")


@cache
def _schema() -> SchemaValidator:
    each = dict.fromkeys
    text, count = c.str_schema(max_length=4096, strict=True), c.int_schema(ge=0, lt=2**63, strict=True)
    number = c.union_schema([c.int_schema(strict=True), c.float_schema(allow_inf_nan=False, strict=True)])
    measure, width = c.nullable_schema(number), c.int_schema(ge=1, le=WIDEST, strict=True)
    numbers = c.list_schema(measure, strict=True)
    tables = c.list_schema(c.nullable_schema(numbers), strict=True)
    interval = c.nullable_schema(c.list_schema(number, min_length=2, max_length=2, strict=True))
    cell = _record(
        each(("rho", "temperature", "candidates", "return_mean", "score_mean"), measure)
        | each(("return_ci95", "score_ci95"), interval)
        | each(("seeds", "episodes"), count)
        | each(("interval_over", "method", "guidance", "sampler"), text)
        | each(("beta", "sliced_wasserstein", "floor", "ratio", "energy_distance", "energy_floor"), number)
        | each(("total_variation", "total_variation_floor"), number)
    )
    data = _record(
        each(("observation_dim", "action_dim"), width)
        | each(("rows", "episodes", "windows", "parameters"), count)
        | each(("return_least", "return_mean", "return_best"), number)
    )
    dynamics = _record(
        each(("one_step", "one_step_raw", "reward", "clipped"), numbers) | each(("horizon", "horizon_raw"), tables)
    )
    return SchemaValidator(
        _record(
            {
                "data": data,
                "cells": c.list_schema(cell, min_length=1, strict=True),
                "quantiles": c.dict_schema(text, number, strict=True),
                "dynamics": dynamics,
                "coverage": tables,
            }
            | each(("likelihood", "on_policy", "holdout_mse"), numbers)
            | each(("steps", "steps_per_s", "mean", "ess", "min", "max", "sampling_s"), number)
        )
    )
