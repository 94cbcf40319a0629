"""A result of ``loss_gradient`` as a table, as JSON and as a file: each output with its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from .._inputs import arrays
from ..results import Certificate, GradientResult

__all__ = ["headline", "result_arrays", "summary", "table"]

REACHED = {True: "reached", False: "not reached", None: "not asked for"}
# In the file, where a number has to be: no polynomial, and no confidence.
NO_DEGREE, NO_CONFIDENCE = -1, np.nan


def _degree(certificate: Certificate, result: GradientResult[Any]) -> int | None:
    """Of the polynomial, for what was made with one."""
    return result.plan.degree if certificate.method == result.plan.method else None


def _entry(certificate: Certificate, result: GradientResult[Any]) -> dict[str, Any]:
    return {
        "method": certificate.method,
        "degree": _degree(certificate, result),
        "kind": certificate.kind,
        "confidence": certificate.confidence,
        "norm": certificate.norm,
        "absolute": certificate.absolute,
        "relative": certificate.relative,
        "success": certificate.success,
        "message": certificate.message,
    }


def summary(result: GradientResult[Any]) -> dict[str, Any]:
    """All but the numbers of the gradients, as plain values."""
    return {
        "loss": result.loss,
        "loss_certificate": _entry(result.loss_certificate, result),
        "seconds": result.seconds,
        "reason": result.plan.reason,
        "gradients": {
            name: {
                "shape": array.shape,
                "size": arrays.norm(array, result.certificates[name].norm),
                **_entry(result.certificates[name], result),
            }
            for name, array in result.gradients.items()
        },
    }


def result_arrays(result: GradientResult[Any]) -> dict[str, Any]:
    """The output file: numbers and words, so that it can be read without pickle."""
    found: dict[str, Any] = {"loss": np.float64(result.loss)}
    found |= _described("loss", result.loss_certificate, result)
    for name, array in result.gradients.items():
        found[f"d{name}"] = array
        found |= _described(f"d{name}", result.certificates[name], result)
    return found


def _described(name: str, certificate: Certificate, result: GradientResult[Any]) -> dict[str, Any]:
    degree, confidence = _degree(certificate, result), certificate.confidence
    return {
        f"{name}_absolute_error": np.float64(certificate.absolute),
        f"{name}_relative_error": np.float64(certificate.relative),
        f"{name}_norm": np.str_(certificate.norm),
        f"{name}_method": np.str_(certificate.method),
        f"{name}_degree": np.int64(NO_DEGREE if degree is None else degree),
        f"{name}_kind": np.str_(certificate.kind),
        f"{name}_confidence": np.float64(NO_CONFIDENCE if confidence is None else confidence),
        f"{name}_success": np.str_(REACHED[certificate.success]),
    }


def headline(result: GradientResult[Any], out: str) -> str:
    """The loss, the time, and why this method."""
    plan = result.plan
    because = f"; {plan.method}, because {plan.reason}" if plan.reason else ""
    return f"loss {result.loss:.10g}, {result.seconds:.3g} s, written to {out}{because}"


def table(result: GradientResult[Any]) -> Table:
    """One row for each output: what made it, what backs its error, and how large that may be."""
    norms = ", ".join(dict.fromkeys(one.norm for one in result.certificates.values()))
    made = Table(title=f"outputs and their errors (norm: {norms}; of the loss: abs)")
    for title in ("output", "method", "kind"):
        made.add_column(title, no_wrap=True)
    for title in ("size", "error", "relative"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("tolerance", no_wrap=True)
    made.add_row("loss", *_cells(result.loss_certificate, result, abs(result.loss)))
    for name, array in result.gradients.items():
        certificate = result.certificates[name]
        size = arrays.norm(array, certificate.norm)
        made.add_row(f"d{name}", *_cells(certificate, result, size))
    return made


def _cells(certificate: Certificate, result: GradientResult[Any], size: float) -> tuple[str, ...]:
    degree, confidence = _degree(certificate, result), certificate.confidence
    return (
        certificate.method + (f", degree {degree}" if degree is not None else ""),
        certificate.kind + (f", {100 * confidence:g} %" if confidence is not None else ""),
        f"{size:.6g}",
        f"{certificate.absolute:.1e}",
        f"{certificate.relative:.1e}",
        REACHED[certificate.success],
    )
