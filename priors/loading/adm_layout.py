"""The arrangement of OpenAI's ablated diffusion U-Net (ADM), read from its weights.

References:
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021)
    | https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from dataclasses import dataclass

from invdiff.errors import PriorError
from invdiff.priors.loading.matching import State

__all__ = ["ADMLayout"]


@dataclass(frozen=True)
class ADMLayout:
    """The arrangement of an ADM U-Net.

    Arguments:
        channels, out_channels: Of the image, and of what is predicted.
        base: The width of the time embedding.
        widths: The channels of each level, fine to coarse.
        blocks: The residual blocks of a level.
        attention: Levels with attention, 0 the finest; the middle always has it.
        head_channels: The channels of an attention head; 0 for four heads.
        classes: The number of classes, 0 for none.
        scale_shift: Whether the embedding scales and shifts the norm, or only adds.
        residual_resampling: Whether residual blocks change the resolution, or plain layers.
        new_attention: Whether queries, keys and values are apart before heads are.
    """

    channels: int
    out_channels: int
    base: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_channels: int = 64
    classes: int = 0
    scale_shift: bool = True
    residual_resampling: bool = True
    new_attention: bool = False

    @classmethod
    def of(cls, state: State) -> ADMLayout:
        """The arrangement that a state dict has, but for how heads are split.

        Raises PriorError if it is not that of an ADM U-Net.
        """
        try:
            return cls._of(state)
        except (KeyError, IndexError, ValueError) as error:
            raise PriorError(
                f"The weights are not those of an ADM U-Net (guided-diffusion): {error}."
            ) from error

    @classmethod
    def _of(cls, state: State) -> ADMLayout:
        outputs = [_kinds(state, "output_blocks", i) for i in _count(state, "output_blocks")]
        # The last block of every level but the finest has one more part, which goes up.
        rises = [i for i, kinds in enumerate(outputs) if len(kinds) - ("qkv" in kinds) == 2]
        levels = len(rises) + 1
        blocks = len(outputs) // levels - 1
        level_of = [levels - 1 - i // (blocks + 1) for i in range(len(outputs))]
        width: dict[int, int] = {}
        for i, level in enumerate(level_of):
            width[level] = state[f"output_blocks.{i}.0.out_layers.3.weight"].shape[0]
        last = width[0]
        return cls(
            channels=state["input_blocks.0.0.weight"].shape[1],
            out_channels=state["out.2.weight"].shape[0],
            base=state["time_embed.0.weight"].shape[1],
            widths=tuple(width[level] for level in range(levels)),
            blocks=blocks,
            attention=tuple(
                sorted({level_of[i] for i, kinds in enumerate(outputs) if "qkv" in kinds})
            ),
            classes=state["label_emb.weight"].shape[0] if "label_emb.weight" in state else 0,
            scale_shift=(
                state[f"output_blocks.{len(outputs) - 1}.0.emb_layers.1.weight"].shape[0] != last
            ),
            residual_resampling=not any(key.endswith(".0.op.weight") for key in state),
        )


def _count(state: State, name: str) -> range:
    numbers = {int(key.split(".")[1]) for key in state if key.startswith(name + ".")}
    if numbers != set(range(len(numbers))) or not numbers:
        raise ValueError(f"{name} are numbered {sorted(numbers)[:4]}")
    return range(len(numbers))


def _kinds(state: State, name: str, index: int) -> list[str]:
    """The parts of one block: "res", "qkv" or "conv"."""
    parts: dict[int, str] = {}
    for key in state:
        if key.startswith(f"{name}.{index}."):
            _, _, part, kind, *_ = key.split(".")
            if kind in ("in_layers", "qkv", "conv"):
                parts[int(part)] = kind
    return [parts[i] for i in sorted(parts)]
