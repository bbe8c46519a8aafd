"""Folders that transformers and sentence-transformers load, and what a reader of an exported folder needs to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .disk import replacing, write_tensors
from .encoders import Encoder, Saved, Transformers
from .encoders.published import LAYERS, Published
from .errors import Failed
from .folder import write_json
from .hubfolder import CONFIG, MODULES, OLD, POOLED, PROCESSOR, PROMPTS, PUBLIC, SENTENCES, TOKENIZING
from .layout import CARD
from .loaded import LoadedEncoder
from .modalities import Modality
from .network import drawn, taken
from .parts import evaluating
from .stacks import encoded

ROWS = (1, 3, 5)  # that a folder is asked for when it is read back
SAID = ["a text", "and another one", "It's 2,000 BLUE circles & more!"]  # which must be read alike
THEIRS = "sentence_transformers.models."  # where every version of it finds its modules
FLAGS = {POOLED[new]: old for old, new in OLD.items()}  # how we pool -> what every version of it calls that
READABLE = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True}


def write_transformers(loaded: LoadedEncoder, recipe: Encoder, folder: Path) -> list[Path]:
    """The network as transformers has it, with its tokenizer, or how its pictures are prepared.

    Raises:
        Failed: transformers has no such network.
    """
    about = published(loaded, recipe, "hf")
    if about.dense:
        others = "sentence-transformers and onnx have" if about.pooling else "onnx has"
        raise Failed(f"format hf has no place for the linear map that follows the network: {others}")
    files = [*_network(about, folder), *_preparing(about, loaded.modality, folder)]
    features = f"torch.nn.functional.normalize({about.code})" if about.unit else about.code
    return [*files, _card(folder, loaded, (OF_TEXTS if about.pooling else OF_PICTURES) + f"features = {features}\n")]


def write_sentences(loaded: LoadedEncoder, recipe: Encoder, folder: Path) -> list[Path]:
    """A folder of sentence-transformers: network, pooling, and what follows.

    Raises:
        Failed: it has no such encoder.
    """
    about = published(loaded, recipe, "sentence-transformers")
    if about.pooling is None:
        raise Failed(
            "format sentence-transformers holds encoders of texts, this one is of pictures: --format hf holds it"
        )
    files = [*_network(about, folder), *_preparing(about, loaded.modality, folder)]
    modules = [("", "Transformer")]
    for name, content, tensors in _layers(about):
        place = f"{len(modules)}_{name}"
        (folder / place).mkdir()
        modules.append((place, name))
        files.append(_json(folder / place / CONFIG, content))
        files += [_tensors(folder / place / PUBLIC, tensors)] if tensors else []
    named = [{"idx": n, "name": str(n), "path": path, "type": THEIRS + name} for n, (path, name) in enumerate(modules)]
    prompt = loaded.modality.tree().get("prompt")
    prompts = {"prompts": {"default": prompt} if prompt else {}, "default_prompt_name": "default" if prompt else None}
    length = {"max_seq_length": loaded.modality.facts["length"], "do_lower_case": False}
    files += [
        _json(folder / MODULES, named),
        _json(folder / SENTENCES, length),
        _json(folder / PROMPTS, {**prompts, "similarity_fn_name": "cosine"}),
    ]
    return [*files, _card(folder, loaded, OF_SENTENCES)]


def published(loaded: LoadedEncoder, recipe: Encoder, format: str) -> Published:
    """The encoder as others know it.

    Raises:
        Failed: they know none like it.
    """
    about = recipe.published(loaded.encoder)
    if about is None:
        raise Failed(
            f"format {format} holds networks of transformers, and {recipe.bare.label()} is none: Transformers and "
            "TextTransformer can be exported so, every encoder with --format onnx"
        )
    return about


def read_back(loaded: LoadedEncoder, recipe: Encoder, folder: Path) -> float | None:
    """Largest difference between its features and those of the folder, read again; None where transformers is not
    installed.

    Raises:
        Failed: transformers reads other tokens from it.
    """
    if find_spec("transformers") is None:
        return None
    about = published(loaded, recipe, "")
    if about.pooling is not None:
        _must_read_alike(folder, loaded.modality, about.config["model_type"])
    known = {"pooling": about.pooling, "dense": tuple(layer for layer, _ in about.dense), "unit": about.unit}
    module = Saved(path=str(folder), encoder=Transformers(config=dict(about.config), **known)).build()
    chance, found = torch.Generator().manual_seed(0), [0.0]
    with torch.inference_mode(), evaluating(module):
        for rows in ROWS:
            data = drawn(loaded.modality.example(), rows, chance)
            ours = loaded(data)
            difference = (ours - encoded(data, module)).abs().max() / max(1.0, float(ours.abs().max()))
            found.append(float(difference))
    return max(found)


def _must_read_alike(folder: Path, modality: Modality, kind: str) -> None:
    """transformers has tokenizers of its own for some networks, whatever their tokenizer.json says."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)(SAID, padding=True, truncation=True, return_tensors="pt")
    ours = modality.model_copy(update={"prompt": ""}).plain([modality.read(text) for text in SAID])
    seen = [
        values * mask.long()
        for values, mask in ((theirs["input_ids"], theirs["attention_mask"]), (ours.values, ours.mask))
    ]
    if not seen[0].equal(seen[1]):
        raise Failed(
            f"transformers reads other tokens for {kind} than this encoder was trained with: --format onnx keeps them"
        )


def _network(about: Published, folder: Path) -> Iterator[Path]:
    yield _json(folder / CONFIG, {**about.config, "dtype": "float32"})
    yield _tensors(folder / PUBLIC, about.weights)


def _preparing(about: Published, modality: Modality, folder: Path) -> Iterator[Path]:
    """Files that say how the network's input is made."""
    known = modality.tree()
    if about.pooling is None:
        size = {"height": known["size"], "width": known["size"]}
        yield _json(
            folder / PROCESSOR, {**READABLE, "size": size, "image_mean": known["mean"], "image_std": known["std"]}
        )
        return
    alone = modality.alone()
    assert alone is not None, "what transformers reads comes from a tokenizer"
    for name, content in alone.files.items():
        yield _bytes(folder / name, content)
        marks = _marks(content, modality.facts)
        yield _json(folder / TOKENIZING, {**TOKENIZED, **marks, "model_max_length": modality.facts["length"]})


TOKENIZED = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_input_names": ["input_ids", "attention_mask"],
    "clean_up_tokenization_spaces": False,
}


def _marks(tokenizer: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Names of the tokens that fill up and hide, by transformers' names for them."""
    import tokenizers

    named = tokenizers.Tokenizer.from_str(tokenizer.decode())
    known = {"pad_token": facts.get("padding"), "mask_token": facts.get("mask")}
    return {name: named.id_to_token(number) for name, number in known.items() if number is not None}


def _layers(about: Published) -> Iterator[tuple[str, dict[str, Any], Mapping[str, torch.Tensor]]]:
    """(name, what its config.json says, weights) of each module after the network."""
    width = about.width
    flags = {name: how == about.pooling for how, name in FLAGS.items()}
    yield "Pooling", {"word_embedding_dimension": width, **flags}, {}
    for layer, tensors in about.dense:
        bend = LAYERS[layer.activation]
        shape = {"in_features": width, "out_features": layer.dim, "bias": layer.bias}
        yield "Dense", {**shape, "activation_function": f"{bend.__module__}.{bend.__name__}"}, tensors
        width = layer.dim
    if about.unit:
        yield "Normalize", {}, {}


def _json(path: Path, content: Any) -> Path:
    write_json(path, content)
    return path


def _bytes(path: Path, content: bytes) -> Path:
    with replacing(path) as part:
        part.write_bytes(content)
    return path


def _tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """transformers asks for the word `pt` in the file."""
    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_tensors(path, own, {"format": "pt"})
    return path


def onnx_card(loaded: LoadedEncoder, file: str, called: Mapping[str, tuple[str, bytes]]) -> str:
    """How a file of onnxruntime is asked, in Python. called: what the files that make its inputs are called here"""
    alone, tensors = loaded.modality.alone(), taken(loaded.modality.example()).tensors
    shapes = {name: f"np.zeros({tuple(one.shape)}, np.float32)" for name, one in tensors.items()}
    blank = (
        f"inputs = {{{', '.join(f'{name!r}: {made}' for name, made in shapes.items())}}}  # as preprocessing.json says"
    )
    lines = blank if alone is None else f"{alone.given}\n{alone.code}"
    for name, (here, _) in called.items():
        lines = lines.replace(f'"{name}"', f'"{here}"')
    return ONNX_CARD.format(name=loaded.fingerprint, role=loaded.role, dim=loaded.dim, lines=lines, file=file)


ONNX_CARD = """# Encoder {name}

Maps one {role} to {dim} numbers: `features` as the encoder makes them, `unit` of length one.

```python
import numpy as np
import onnxruntime

{lines}
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
features, unit = session.run(["features", "unit"], inputs)
```
"""


def _card(folder: Path, loaded: LoadedEncoder, code: str) -> Path:
    """README.md; code: Python that uses the folder it lies in."""
    prompt = loaded.modality.tree().get("prompt") or ""
    about = f"# Encoder {loaded.fingerprint}\n\nMaps one {loaded.role} to {loaded.dim} numbers. In this folder:\n"
    (folder / CARD).write_text(f"{about}\n```python\n{code.replace('PROMPT', json.dumps(prompt)[1:-1])}```\n")
    return folder / CARD


OF_TEXTS = """import torch
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModel.from_pretrained(".").eval()
tokens = tokenizer(["PROMPTa text", "PROMPTand another one"], padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    out, mask = model(**tokens), tokens["attention_mask"]
"""
OF_PICTURES = """import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

processor, model = AutoImageProcessor.from_pretrained("."), AutoModel.from_pretrained(".").eval()
with torch.inference_mode():
    out = model(**processor(images=Image.new("RGB", (300, 200)), return_tensors="pt"))
"""
OF_SENTENCES = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
vectors = model.encode(["a text", "and another one"])
"""
