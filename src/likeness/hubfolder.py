"""Folders of weights as others write them (timm, transformers, sentence-transformers, open_clip), read as trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Failed, WrongCall, meant
from .weights import Tree, read_json

SUFFIX = ".safetensors"
PUBLIC, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"  # transformers' and timm's
INDEX = f"{PUBLIC}.index.json"  # which file has which tensor, where there are several
TOKENIZER, TOKENIZING = "tokenizer.json", "tokenizer_config.json"
WORDS = (TOKENIZER, TOKENIZING, "vocab.txt", "sentencepiece.bpe.model")  # a folder with one of them is of texts
MODULES, SENTENCES, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
CLIP, CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TOWERS = ("image", "text")  # of an open_clip model
POOLED = {"mean": "mean", "cls": "cls", "lasttoken": "last"}  # as sentence-transformers says it -> as we do
OLD = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
OFFSET = ("roberta", "camembert", "mpnet", "longformer", "ibert", "data2vec-text")  # positions begin after the padding
LONGEST = 512  # tokens that are read where a network would take more: training would need the memory
HUGE = 10**6  # tokenizers say some such number where they know no limit


@dataclass(frozen=True)
class Described:
    """A network in a folder.

    files:   (what stands before its tensors' names, file) of all its weights
    network: its recipe
    seen:    how its input was prepared
    role:    whose tower it is, where the folder has several
    """

    files: tuple[tuple[str, Path], ...]
    network: Tree
    seen: Tree = field(default_factory=dict)
    role: str | None = None


def towers(folder: Path) -> tuple[str, ...]:
    """The encoders of a folder; none where it has one."""
    return TOWERS if (folder / CLIP).exists() else ()


def known(folder: Path) -> bool:
    """Whether it looks like one."""
    return any((folder / name).exists() for name in (CONFIG, MODULES, CLIP))


def described(folder: Path, role: str | None = None) -> Described:
    """role: which tower is meant, where there are two.

    Raises:
        WrongCall: it names no network that is known here.
        Failed: its files are damaged.
    """
    if (folder / CLIP).exists():
        return _of_clip(folder, role)
    if (folder / MODULES).exists():
        return _of_modules(folder)
    return _of_network(folder)


def must_be_weights(path: Path, expected: str = f"a {SUFFIX} file") -> None:
    """Refuse a file that is not there, or would have to be unpickled.

    Raises:
        WrongCall: with the remedy.
    """
    if path.suffix == SUFFIX and path.is_file():
        return
    if path.is_file():
        raise WrongCall(f"{path} is no {SUFFIX} file: weights of other forms are not unpickled; save them as {SUFFIX}")
    folder = path.parent
    pickled = [*folder.glob("*.bin"), *folder.glob("*.pt")] if path.name in (PUBLIC, CLIP_WEIGHTS) else []
    if pickled:
        raise WrongCall(
            f"{pickled[0]} is not unpickled, and there is no {path.name} beside it: save the weights as that"
        )
    near = [str(other) for other in folder.glob("*")] if folder.is_dir() else []
    hub = len(path.parts) == 2 and not folder.exists()
    fetch = f"; is it a name on Hugging Face? `hf download {path}`, then hf:{path}" if hub else ""
    raise WrongCall(f"there are no weights at {path}{meant(str(path), near)}{fetch} (expected {expected})")


def timm_sight(settings: Mapping[str, Any]) -> Tree:
    """timm's words for how pictures were prepared."""
    known = {name: list(settings[name]) for name in ("mean", "std") if settings.get(name)}
    size = settings.get("input_size")
    return {"kind": "Image", **known, **({"channels": size[0], "size": size[-1]} if size else {})}


def timm_network(name: str) -> Tree:
    """A network of timm as its public weights know it."""
    return {"kind": "Timm", "name": name, "stem": "usual"}


def _of_network(folder: Path) -> Described:
    """timm's own folder, whose config.json names an `architecture`, or transformers'."""
    files, config = _weights(folder), read_json(folder / CONFIG)
    if "architecture" in config:
        return Described(files, timm_network(config["architecture"]), timm_sight(config.get("pretrained_cfg", config)))
    if "model_type" not in config:
        raise WrongCall(f"{folder / CONFIG} names no network: expected `architecture` (timm) or `model_type`")
    network = {"kind": "Transformers", "config": config}
    if any((folder / name).exists() for name in WORDS) and not (folder / PROCESSOR).exists():
        return Described(files, network, _texts(folder, config))
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).exists() else {}
    known = {name: processor.get(f"image_{name}") for name in ("mean", "std")}
    known |= {"size": config.get("image_size"), "channels": config.get("num_channels")}
    return Described(files, network, {"kind": "Image", **{name: value for name, value in known.items() if value}})


def _weights(folder: Path) -> tuple[tuple[str, Path], ...]:
    if not (folder / INDEX).exists():
        must_be_weights(folder / PUBLIC)
        return (("", folder / PUBLIC),)
    files = [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    for file in files:
        must_be_weights(file)
    return tuple(("", file) for file in files)


def _texts(folder: Path, config: Tree) -> Tree:
    """How much of a text a network reads, and of which tokens."""
    about = _if_there(folder / SENTENCES)
    most = config.get("max_position_embeddings") or LONGEST
    if any(name in config["model_type"] for name in OFFSET):
        most -= (config.get("pad_token_id") or 0) + 1
    said = about.get("max_seq_length") or _if_there(folder / TOKENIZING).get("model_max_length") or HUGE
    tokens = {"kind": "Pretrained", "path": str(folder)}
    return {"kind": "Text", "tokens": tokens, "length": int(min(most, said, LONGEST))}


def _if_there(file: Path) -> Tree:
    found: Tree = read_json(file) if file.exists() else {}
    return found


def _of_modules(folder: Path) -> Described:
    """A folder of sentence-transformers: a network, how its tokens are pooled, and layers after that."""
    modules = [(str(one["type"]).rpartition(".")[2], folder / one["path"]) for one in read_json(folder / MODULES)]
    names = [name for name, _ in modules]
    if names[:1] != ["Transformer"] or set(names[1:]) - {"Pooling", "Dense", "Normalize"}:
        odd = next((name for name in names if name not in ("Transformer", "Pooling", "Dense", "Normalize")), names)
        raise WrongCall(
            f"{folder}: {odd} among its modules is not known here: Transformer, Pooling, Dense, Normalize are"
        )
    if names != [name for name in ("Transformer", "Pooling", "Dense", "Normalize") for _ in range(names.count(name))]:
        raise WrongCall(f"{folder}: its modules stand in an order that is not known here: {', '.join(names)}")
    found = _of_network(modules[0][1])
    layers = [path for name, path in modules if name == "Dense"]
    for layer in layers:
        must_be_weights(layer / PUBLIC)
    files = [(f"dense.{n}.", layer / PUBLIC) for n, layer in enumerate(layers)]
    pooling = next((_pooling(path) for name, path in modules if name == "Pooling"), "mean")
    after = {"dense": [_dense(layer) for layer in layers], "unit": "Normalize" in names}
    return Described(
        (*found.files, *files), {**found.network, "pooling": pooling, **after}, found.seen | _prompt(folder)
    )


def _pooling(folder: Path) -> str:
    """What it is called here.

    Raises:
        WrongCall: there is no such here.
    """
    about = read_json(folder / CONFIG)
    old = [OLD.get(name, name) for name, on in about.items() if name.startswith("pooling_mode_") and on]
    asked = about.get("pooling_mode") or old or ["mean"]
    modes = [asked] if isinstance(asked, str) else list(asked)
    if len(modes) > 1 or modes[0] not in POOLED or about.get("include_prompt") is False:
        how = f"pooling {'+'.join(modes)}" if about.get("include_prompt", True) else "include_prompt=false"
        raise WrongCall(f"{folder / CONFIG}: {how} is not known here: mean, cls or lasttoken of all tokens are")
    return POOLED[modes[0]]


def _dense(folder: Path) -> Tree:
    about = read_json(folder / CONFIG)
    if about.get("use_residual") or about.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise WrongCall(
            f"{folder / CONFIG}: a layer with a shortcut, or of other input than the vector, is not known here"
        )
    activation = str(about.get("activation_function", "Tanh")).rpartition(".")[2].lower()
    return {"dim": about["out_features"], "bias": about.get("bias", True), "activation": activation}


def _prompt(folder: Path) -> Tree:
    """What stands before each text unless something else is asked for."""
    about = _if_there(folder / PROMPTS)
    prompt = (about.get("prompts") or {}).get(about.get("default_prompt_name"))
    return {"prompt": prompt} if prompt else {}


def _of_clip(folder: Path, role: str | None) -> Described:
    if role not in TOWERS:
        asked = f"no tower {role!r}{meant(role, TOWERS)}" if role else "two encoders"
        raise WrongCall(f"{folder} has {asked} ({', '.join(TOWERS)}): say which with encoder.role=")
    must_be_weights(folder / CLIP_WEIGHTS)
    about = read_json(folder / CLIP)
    try:
        seen = clip_seen(about["model_cfg"], about.get("preprocess_cfg", {}), role, str(folder))
    except (KeyError, TypeError) as error:
        raise Failed(f"{folder / CLIP} is damaged: {error}") from error
    network = {"kind": "OpenClip", "config": about["model_cfg"], "tower": role}
    return Described((("", folder / CLIP_WEIGHTS),), network, seen, role)


def clip_seen(config: Tree, shown: Tree, tower: str, folder: str) -> Tree:
    """How the input of a tower was prepared. shown: open_clip's `preprocess_cfg`"""
    return CLIP_SEEN[tower](config, shown, folder)


def _clip_words(config: Tree, shown: Tree, folder: str) -> Tree:
    about = config["text_cfg"]
    named = about.get("hf_tokenizer_name") or about.get("hf_model_name")
    tokens = {"kind": "Pretrained", "path": folder} if named else {"kind": "ClipPieces"}
    asked = {**(about.get("tokenizer_kwargs") or {}), "mode": about.get("tokenizer_mode")}
    odd = {name: value for name, value in asked.items() if value and value != USUAL[bool(named)].get(name)}
    if odd:
        raise WrongCall(f"{folder}: its texts were prepared with {odd}, which is not done here")
    return {"kind": "Text", "tokens": tokens, "length": about.get("context_length", 77)}


def _clip_pictures(config: Tree, shown: Tree, folder: str) -> Tree:
    size = shown.get("size") or config["vision_cfg"].get("image_size", 224)
    known = {name: shown[name] for name in ("mean", "std") if shown.get(name)}
    return {"kind": "Image", "channels": 3, "size": max(size) if isinstance(size, list) else size, **known}


USUAL = {False: {"clean": "lower"}, True: {"clean": "whitespace"}}  # what our tokens do as well, CLIP's and others
CLIP_SEEN = {"image": _clip_pictures, "text": _clip_words}
