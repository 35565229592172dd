# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of object encoders: read into our networks, and written as the public code reads them.

Layouts, by what the public codes save:

    point_mae    209 tensors  PointMaeModel
    point_pqae   214 tensors  PointPqaeModel
    classifier   174 tensors  ObjectClassifier with head mlp3; what fine-tuning Point-MAE or Point-PQAE leaves
    point_bert    75 tensors  DiscreteVae, Point-BERT's tokeniser

A file is ``torch.save`` of {base_model, optimizer, epoch, metrics, best_metrics}; only tensors are read
(``weights_only``). Names may begin with ``module.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .export import check_patch_size, copy_encoder

_BLOCK = [(r"\.mlp\.0\.", ".mlp.fc1."), (r"\.mlp\.2\.", ".mlp.fc2.")]
_EMBEDDING = [
    (r"^embedding\.first\.", "encoder.first_conv."),
    (r"^embedding\.second\.", "encoder.second_conv."),
]
_ENCODER = [
    *_BLOCK,
    *_EMBEDDING,
    (r"^position\.", "pos_embed."),
    (r"^transformer\.blocks\.", "blocks.blocks."),
    (r"^transformer\.norm\.", "norm."),
    (r"^class_token$", "cls_token"),
    (r"^class_position$", "cls_pos"),
]
_DECODER = [(r"^decoder_position\.", "decoder_pos_embed."), *_BLOCK]
_GRAPH = [
    (r"^(dgcnn_\d)\.enter\.", r"\1.input_trans."),
    (r"^(dgcnn_\d)\.leave\.", r"\1.layer5."),
    *((rf"^(dgcnn_\d)\.layers\.{i}\.", rf"\1.layer{i + 1}.") for i in range(4)),
]

Rules = list[tuple[str, str]]


def _inside(prefix: str, theirs: str, rules: Rules) -> Rules:
    """Return the rules for names that stand below ``prefix`` here and below ``theirs`` there."""
    head = re.escape(prefix)
    return [
        (pattern.replace("^", f"^{head}", 1), theirs + new) if pattern.startswith("^") else (pattern, new)
        for pattern, new in rules
    ]


LAYOUTS: dict[str, Rules] = {
    "point_mae": [
        *_inside("encoder.", "MAE_encoder.", _ENCODER),
        *_DECODER,
        (r"^decoder\.transformer\.", "MAE_decoder."),
        (r"^decoder\.head\.", "increase_dim.0."),
    ],
    "point_pqae": [
        *_inside("encoder.", "PQAE_encoder.", _ENCODER),
        *_DECODER,
        (r"^decoder\.transformer\.", "PQ_decoder."),
        (r"^decoder\.head\.", "PQ_linear."),
        (r"^query\.", "PQattn_contrast."),
    ],
    "classifier": [*_inside("encoder.", "", _ENCODER), (r"^head\.", "cls_head_finetune.")],
    "point_bert": [
        *_EMBEDDING,
        (r"^to_words\.", "dgcnn_1."),
        (r"^from_words\.", "dgcnn_2."),
        *_GRAPH,
        (r"^decoder\.coarse\.", "decoder.mlp."),
        (r"^decoder\.fold\.", "decoder.final_conv."),
    ],
}
"""How our tensors' names become theirs: substitutions, one after the other."""

_MARKS = {
    "MAE_encoder.": "point_mae",
    "PQAE_encoder.": "point_pqae",
    "cls_head_finetune.": "classifier",
    "dgcnn_1.": "point_bert",
}
# Layers that are convolutions of width one there, by their names there, and how many axes those add.
_CONVOLUTIONS = {
    r"(first_conv|second_conv|final_conv)\.\d\.weight$": 1,
    r"increase_dim\.0\.weight$|input_trans\.weight$|layer5\.0\.weight$": 1,
    r"layer[1-4]\.0\.weight$": 2,
}


def read_foreign(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """Read a published checkpoint.

    Returns:
        The name of its layout and its tensors under their own names, without ``module.``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read without unpickling code, or its layout is none of ``LAYOUTS``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"'{path}' is not a checkpoint of plain tensors ({first})") from error
    data = data.get("base_model", data) if isinstance(data, dict) else data
    if not isinstance(data, dict) or not all(isinstance(v, Tensor) for v in data.values()):
        raise ValueError(f"'{path}' holds no state of a network; its entry 'base_model' should")
    tensors = {str(k).removeprefix("module."): v for k, v in data.items()}
    for mark, layout in _MARKS.items():
        if any(name.startswith(mark) for name in tensors):
            return layout, tensors
    raise ValueError(
        f"'{path}' is of no known layout ({', '.join(LAYOUTS)}); it begins with {sorted(tensors)[:3]}"
    )


def foreign_names(names: Mapping[str, Tensor], layout: str) -> dict[str, str]:
    """Return our name -> theirs."""
    out = {}
    for name in names:
        theirs = name
        for pattern, new in LAYOUTS[layout]:
            theirs = re.sub(pattern, new, theirs)
        out[name] = theirs
    return out


def _extra_axes(name: str) -> int:
    return next((n for pattern, n in _CONVOLUTIONS.items() if re.search(pattern, name)), 0)


def to_foreign(network: nn.Module, layout: str) -> dict[str, Tensor]:
    """Return a network's tensors under the names and in the shapes of a published layout."""
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("data_preprocessor")}
    names = foreign_names(state, layout)
    return {
        names[k]: v.detach().cpu().reshape((*v.shape, *[1] * (_extra_axes(names[k]) if v.ndim == 2 else 0)))
        for k, v in state.items()
    }


def save_foreign(network: nn.Module, layout: str, path: str | Path) -> None:
    """Write a network as a checkpoint that the public code reads; ``optimizer`` and ``epoch`` are empty."""
    data = {"base_model": to_foreign(network, layout), "optimizer": {}, "epoch": 0}
    torch.save(data | {"metrics": {}, "best_metrics": {}}, path)


def load_foreign(network: nn.Module, path: str | Path) -> None:
    """Load a whole published checkpoint into the network of its layout.

    Raises:
        FileNotFoundError, ValueError: as ``read_foreign``; or tensors are missing, superfluous or of another
            shape, for instance since the checkpoint has another patch size.
    """
    layout, theirs = read_foreign(path)
    ours = network.state_dict()
    names = foreign_names({k: v for k, v in ours.items() if not k.startswith("data_preprocessor")}, layout)
    unknown = sorted(set(theirs) ^ set(names.values()))
    if unknown:
        raise ValueError(
            f"'{path}' ({layout}) does not fit this network; only one of them has {', '.join(unknown[:3])}"
        )
    fitting = {k: _ours(theirs[name], name) for k, name in names.items()}
    for k, tensor in fitting.items():
        if tensor.shape != ours[k].shape:
            raise ValueError(
                f"'{path}' does not fit: '{names[k]}' is {tuple(tensor.shape)}, this network has"
                f" {tuple(ours[k].shape)}; build it with the checkpoint's sizes (patch_size, width, classes)"
            )
    network.load_state_dict(fitting, strict=False)


def _ours(tensor: Tensor, name: str) -> Tensor:
    return tensor.flatten(1) if _extra_axes(name) and tensor.ndim > 2 else tensor


def load_foreign_encoder(network: nn.Module, path: str | Path) -> list[str]:
    """Copy the encoder of a published checkpoint into a network that has one as ``encoder``.

    Returns:
        A line for each tensor of the network that was left as it was; a head is never taken.

    Raises:
        FileNotFoundError, ValueError: as ``read_foreign``, nothing fits, or the patch size is another one.
    """
    layout, theirs = read_foreign(path)
    if layout == "point_bert":
        raise ValueError(f"'{path}' holds Point-BERT's tokeniser, which is no encoder of objects")
    decoded = next((v for k, v in theirs.items() if k in ("increase_dim.0.bias", "PQ_linear.bias")), None)
    check_patch_size(network, 0 if decoded is None else len(decoded) // 3, str(path))
    own = {k: v for k, v in network.state_dict().items() if k.startswith("encoder.")}
    names = foreign_names(own, layout)
    found = {k: _ours(theirs[name], name) for k, name in names.items() if name in theirs}
    return copy_encoder(network, found, str(path))
