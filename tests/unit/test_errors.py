"""Every error is of one tree and is the built-in that a caller would catch."""

from __future__ import annotations

import builtins
import copy
import importlib
import pickle
import sys

import pytest

import attngrad_rs as ag
from attngrad_rs import errors

BUILT_INS = {
    "ShapeError": "ValueError",
    "CheckpointError": "OSError",
    "DTypeError": "TypeError",
    "OptionError": "ValueError",
    "OptionTypeError": "TypeError",
    "NonFiniteError": "ValueError",
    "RangeError": "ValueError",
    "ToleranceError": "ArithmeticError",
    "DeadlineError": "TimeoutError",
    "OutOfMemoryError": "MemoryError",
    "ThreadError": "RuntimeError",
    "InternalError": "RuntimeError",
    "ProblemFileError": "ValueError",
    "OutputError": "OSError",
    "MissingDependencyError": "ImportError",
}


def test_the_list_is_whole() -> None:
    assert set(errors.__all__) == {"AttnGradError", "PrecisionWarning", *BUILT_INS}
    assert issubclass(errors.PrecisionWarning, UserWarning)
    assert set(errors.__all__) <= set(ag.__all__)


@pytest.mark.parametrize(("name", "built_in"), BUILT_INS.items())
def test_each_is_also_a_built_in(name: str, built_in: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.AttnGradError)
    assert issubclass(error, getattr(builtins, built_in))
    assert str(error("X: found 1; expected 2")) == "X: found 1; expected 2"
    assert error.__doc__


@pytest.mark.parametrize("name", BUILT_INS)
def test_each_travels(name: str) -> None:
    error = getattr(errors, name)("X: found 1; expected 2")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.__dict__ == error.__dict__


def test_attributes() -> None:
    assert errors.ToleranceError("rtol: found 1", best_rtol=0.25).best_rtol == 0.25
    assert errors.ToleranceError("rtol: found 1").best_rtol == float("inf")
    assert errors.OutputError("a: found 1", path="a").path == "a"
    travelled = pickle.loads(pickle.dumps(errors.ToleranceError("rtol: found 1", best_rtol=0.25)))
    assert travelled.best_rtol == 0.25


@pytest.mark.parametrize("other", ["dask", "jax"])
def test_a_front_end_names_what_it_misses(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"attngrad_rs.{other}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, other, None)
    with pytest.raises(
        errors.MissingDependencyError, match=rf"^{other}: found .*; .*\.\[{other}\]"
    ):
        importlib.import_module(f"attngrad_rs.{other}")
