"""The switch that gives existing models this attention: ``torch.nn.functional`` has one function.

While it is on, that function is ours; what is not served goes to torch's own, or is refused.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional
from torch import Tensor

from ..errors import MissingDependencyError
from ._served import served

NAME = "scaled_dot_product_attention"
# The name under which models of transformers find it.
ATTENTION = "attngrad"


class _Setting(NamedTuple):
    """Whether what is not served goes to torch, of what it was told already, and the tolerance."""

    fallback: bool
    told: set[str]
    rtol: float | None


_torchs: Callable[..., Tensor] = getattr(torch.nn.functional, NAME)
# The last is in force; a context that is left takes its own away.
_settings: list[_Setting] = []


class Enabled:
    """What ``enable`` returns: leaving it as a context undoes that call."""

    def __init__(self, setting: _Setting) -> None:
        self._setting = setting

    def __enter__(self) -> Enabled:
        return self

    def __exit__(self, *_error: object) -> None:
        # Not by equality: two calls may ask for the same.
        _settings[:] = [one for one in _settings if one is not self._setting]
        _install()


def enable(fallback: bool = True, rtol: float | None = None) -> Enabled:
    """Let models that call torch's attention on the CPU use this one.

    ``torch.nn.functional.scaled_dot_product_attention`` is replaced for the whole process, until
    ``disable()``, or until the context is left that the call may open. Models of Hugging Face with
    ``attn_implementation="sdpa"``, and ``torch.nn.MultiheadAttention`` in training, go through it;
    a module that has imported the function by name before does not.

    Parameters
    ----------
    fallback : bool
        What is not served, as dropout, a mask that is learnt, half precision outside of autocast
        or another device, goes to torch's own function, with one warning for each reason; if False,
        the error of ``scaled_dot_product_attention`` says what it was.
    rtol : float, optional
        The tolerance of gradients, as ``scaled_dot_product_attention`` takes it.

    Returns
    -------
    Enabled
        A context; leaving it undoes this call.

    Examples
    --------
    >>> import torch
    >>> import attngrad_rs.torch as agt
    >>> x = torch.randn(1, 4, 10, 8)
    >>> with agt.enable():
    ...     y = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    >>> y.shape
    torch.Size([1, 4, 10, 8])
    """
    setting = _Setting(fallback, set(), rtol)
    _settings.append(setting)
    _install()
    return Enabled(setting)


def disable() -> None:
    """Undo every ``enable``: models use torch's own function again."""
    _settings.clear()
    _install()


def _install() -> None:
    """Put the function in force where models look for it."""
    found = getattr(torch.nn.functional, NAME)
    # A function that somebody else has put there stays.
    if _settings and found is _torchs:
        setattr(torch.nn.functional, NAME, _switched)
    elif not _settings and found is _switched:
        setattr(torch.nn.functional, NAME, _torchs)


def _switched(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention by the setting in force."""
    given = (query, key, value, attn_mask, dropout_p, is_causal)
    # Somebody may have kept this function when it was switched off.
    if _settings:
        setting = _settings[-1]
        found = served(*given, scale, enable_gqa, setting.rtol)
        if isinstance(found, Tensor):
            return found
        if not setting.fallback:
            raise found
        _tell(str(found), setting)
    # torch takes these by name only.
    named: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    return _torchs(*given, **named)


def _tell(reason: str, setting: _Setting) -> None:
    """Warn once of what goes to torch; by argument, as sizes differ from call to call."""
    argument = reason.partition(":")[0]
    if argument not in setting.told and not torch.compiler.is_compiling():
        setting.told.add(argument)
        warnings.warn(f"attention is left to torch: {reason}", stacklevel=4)


def register_transformers(rtol: float | None = None) -> None:
    """Make this attention known to Hugging Face's transformers, under the name ``"attngrad"``.

    A model made with ``attn_implementation="attngrad"`` uses it then without ``enable``, with what
    is not served left to torch.

    Parameters
    ----------
    rtol : float, optional
        The tolerance of gradients, as ``scaled_dot_product_attention`` takes it.

    Raises
    ------
    MissingDependencyError
        Where transformers is not installed, or too old to be told of an attention.
    """
    try:
        top = importlib.import_module("transformers")
        masks = importlib.import_module("transformers.masking_utils")
        own = importlib.import_module("transformers.integrations.sdpa_attention")
        attentions, mask_makers = top.AttentionInterface, masks.ALL_MASK_ATTENTION_FUNCTIONS
        forward, mask = own.sdpa_attention_forward, masks.sdpa_mask
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"transformers: found {error}; expected a release with AttentionInterface and "
            "masking_utils: pip install 'transformers>=4.53'"
        ) from error
    setting = _Setting(True, set(), rtol)

    def attention(*arguments: Any, **named: Any) -> Any:
        """The function of "sdpa", with ours below it."""
        _settings.append(setting)
        _install()
        try:
            return forward(*arguments, **named)
        finally:
            Enabled(setting).__exit__()

    attentions.register(ATTENTION, attention)
    # Models make the mask that the name of their attention asks for.
    mask_makers.register(ATTENTION, mask)
