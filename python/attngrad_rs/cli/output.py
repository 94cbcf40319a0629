"""A result of ``loss_gradient`` as a table, as JSON and as a file: each output with its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import typer

from ..results import Certificate, GradientResult
from .terminal import print_table

# Fields of each output that are those of its certificate.
SAID = (
    "size", "method", "kind", "confidence", "norm", "absolute", "relative", "success", "message",
)  # fmt: skip
REACHED = {True: "reached", False: "not reached", None: "not asked for"}
COLUMNS = {
    "output": "{name}", "method": "{made}", "kind": "{backed}", "size": "{size:.6g}",
    "error": "{absolute:.1e}", "relative": "{relative:.1e}", "tolerance": "{reached}",
}  # fmt: skip


def entries(result: GradientResult[Any]) -> dict[str, dict[str, Any]]:
    """Fields of the loss, ``"loss"``, and of each gradient, such as ``"dX"``."""
    parts: dict[str, tuple[Certificate, tuple[int, ...]]] = {"loss": (result.loss_certificate, ())}
    for name, array in result.gradients.items():
        parts[f"d{name}"] = (result.certificates[name], array.shape)
    # The degree belongs to what was made with the polynomial: the loss may be exact beside it.
    degrees = {result.plan.method: result.plan.degree}
    return {
        name: {
            "shape": shape, "degree": degrees.get(certificate.method),
            **{field: getattr(certificate, field) for field in SAID},
        }
        for name, (certificate, shape) in parts.items()
    }  # fmt: skip


def summary(result: GradientResult[Any]) -> dict[str, Any]:
    """All but the numbers of the gradients, as plain values."""
    loss, *gradients = entries(result).values()
    return {
        "loss": result.loss,
        "loss_certificate": loss,
        "seconds": result.seconds,
        "reason": result.plan.reason,
        "gradients": dict(zip(result.gradients, gradients, strict=True)),
    }


def result_arrays(result: GradientResult[Any]) -> dict[str, Any]:
    """The output file: numbers and words, so that it can be read without pickle."""
    found: dict[str, Any] = {"loss": np.float64(result.loss)}
    found |= {f"d{name}": array for name, array in result.gradients.items()}
    for name, said in entries(result).items():
        # In the file, where a number has to be: no polynomial, and no confidence.
        degree = -1 if said["degree"] is None else said["degree"]
        confidence = np.nan if said["confidence"] is None else said["confidence"]
        described = {
            "absolute_error": said["absolute"], "relative_error": said["relative"],
            "norm": said["norm"], "method": said["method"], "degree": degree,
            "kind": said["kind"], "confidence": confidence, "success": REACHED[said["success"]],
        }  # fmt: skip
        found |= {f"{name}_{word}": np.asarray(value) for word, value in described.items()}
    return found


def print_result(result: GradientResult[Any], out: str) -> None:
    """The loss, the time and why this method; what made each output, and how far it may be off."""
    plan = result.plan
    because = f"; {plan.method}, because {plan.reason}" if plan.reason else ""
    typer.echo(f"loss {result.loss:.10g}, {result.seconds:.3g} s, written to {out}{because}")
    norms = ", ".join(dict.fromkeys(one.norm for one in result.certificates.values()))
    rows = []
    for name, said in entries(result).items():
        degree, confidence = said["degree"], said["confidence"]
        made = said["method"] + ("" if degree is None else f", degree {degree}")
        backed = said["kind"] + ("" if confidence is None else f", {100 * confidence:g} %")
        reached = REACHED[said["success"]]
        rows.append({**said, "name": name, "made": made, "backed": backed, "reached": reached})
    print_table(f"outputs and their errors (norm: {norms}; of the loss: abs)", COLUMNS, rows)
