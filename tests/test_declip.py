"""DeCLIP: each term is the paper's, hidden tokens follow from text and step, and plain words where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from two_roles import HEADS, MASK, METHODS, PICTURES, SPECIAL, VOCABULARY, WORDS, fitted, learner_of, seen

import likeness
from likeness.encoders import NgramBag, Projected, Residual, Saved, Transformers
from likeness.encoders.masked import MaskedTokens, Masking
from likeness.errors import WrongCall
from likeness.methods import DeCLIP
from likeness.objectives import Siamese
from likeness.objectives.nearest import nearest
from likeness.stacks import Padded
from likeness.views import Batch, Embeddings, Origin, Views, gather

WHOLE = METHODS["DeCLIP whole"]
assert isinstance(WHOLE, DeCLIP)


def plain(batch: Batch) -> dict[str, Views]:
    """The items that have both roles, no caption of which repeats."""
    kept = {}
    for role, views in batch.items():
        both = views[(views.origin.item > 0) & (views.origin.item < 7)]
        kept[role] = Views(both.data, Origin(both.origin.item, both.origin.view))
    return kept


def by_view(parts: Any, batch: Batch) -> list[list[Embeddings]]:
    return [[WHOLE.tower(parts, role)(view) for view in batch[role].apart()] for role in WHOLE.pair_of()]


def cross_entropy(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    logits = scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    return F.cross_entropy(logits, torch.arange(len(a)))


@torch.no_grad()
def test_every_term_is_the_papers() -> None:
    """Equation 1 and what it is made of, written out on views whose rows stand in one order."""
    parts: Any = learner_of(WHOLE, dtype=torch.float64).parts.eval()
    batch = plain(seen(WHOLE, dtype=torch.float64))
    images, texts = by_view(parts, batch)
    past, scale = parts.queue.read(), parts.objective()
    found = {name: float(term.total / term.count) for name, term in WHOLE.loss(parts, batch).items()}
    pairs = [(a.vector, b.vector) for a in images for b in texts]
    clip = [(cross_entropy(a, b, scale) + cross_entropy(b, a, scale)) / 2 for a, b in pairs]
    near = [(a.vector, nearest(b, past).vector) for a in images for b in texts]
    z = [parts.siamese.projector(one.vector) for one in images]
    guess = [parts.siamese.predictor.net(one) for one in z]
    cosine = (F.cosine_similarity(guess[0], z[1]) + F.cosine_similarity(guess[1], z[0])).mean() / 2
    cost, many = parts.masked(Views(batch["text"].apart()[0].data, texts[0].origin)).vector.unbind(1)
    assert len(past) == 12
    assert found == pytest.approx(
        {
            "clip": 0.4 * float(sum(clip)) / 4,
            "simsiam": 0.2 * (1 - float(cosine)),
            "mlm": 0.2 * float(cost.sum() / many.sum()),
            "neighbours": 0.2 * float(sum(cross_entropy(a, b, scale) for a, b in near)) / 4,
        }
    )


def test_a_weight_of_nothing_leaves_the_term_out_and_what_it_learns() -> None:
    whole = learner_of(WHOLE).parts
    for term, part in (("simsiam", "siamese"), ("mlm", "masked"), ("neighbours", "queue")):
        method = fitted(DeCLIP(**HEADS, **{term: 0.0}), PICTURES)
        parts = learner_of(method).parts
        assert set(WHOLE.loss(whole, seen(WHOLE))) - set(method.loss(parts, seen(method))) == {term}
        assert getattr(parts, part) is None


def test_the_queue_remembers_whole_texts() -> None:
    """The first view of each, as a text is left as it is there: the last twelve of those that a step shows."""
    parts: Any = learner_of(WHOLE, steps=1).parts.eval()
    batch = seen(WHOLE)
    shown = gather(WHOLE.tower(parts, "text")(batch["text"].apart()[0])).unit.detach()
    for _ in range(2):  # asked twice, put in once
        WHOLE.loss(parts, batch)
    before = parts.queue.read().vector
    parts.queue.advance(0.5)
    torch.testing.assert_close(parts.queue.read().vector[9:], shown[:3])
    assert len(before) == len(shown) == 9


def test_temperature_stays_within_clips_limit() -> None:
    learner = learner_of(WHOLE)
    with torch.no_grad():
        learner.parts.objective.log.fill_(9.0)
    learner.advance(0.5)
    assert float(learner.parts.objective().detach()) == pytest.approx(100)


# Hidden tokens --------------------------------------------------------------------------------------------------------


def masked(share: float = 0.15) -> MaskedTokens:
    torch.manual_seed(0)
    encoder = WORDS.filled({"vocabulary": VOCABULARY, "length": 40})
    masking = Masking(share=share, vocabulary=VOCABULARY, mask=MASK, special=SPECIAL)
    made = masking.build(encoder, encoder.build(), "text")
    assert isinstance(made, MaskedTokens)
    return made


def tokens(rows: int = 50, length: int = 40, seed: int = 0) -> Padded:
    """[CLS], some 2 to 38 of the others, [SEP]."""
    source = torch.Generator().manual_seed(seed)
    values = torch.randint(4, VOCABULARY, (rows, length), generator=source)
    sizes = torch.randint(4, length + 1, (rows,), generator=source)
    values[:, 0], values[torch.arange(rows), sizes - 1] = 1, 2
    mask = torch.arange(length) < sizes[:, None]
    return Padded(torch.where(mask, values, 0), mask)


def test_a_share_of_the_tokens_is_hidden_and_no_special_one() -> None:
    made, texts = masked(), tokens()
    hidden = made.hidden(texts)
    assert not (hidden & ~texts.mask).any()
    assert not hidden[torch.isin(texts.values, torch.tensor(SPECIAL))].any()
    own = (texts.mask.sum(1) - 2).float()
    assert hidden.sum(1).tolist() == (0.15 * own).round().clamp_min(1).long().tolist()
    places = hidden.float().sum(0)[1:5]
    assert (places > 0).all()


def test_what_is_hidden_follows_from_the_text_and_the_step_alone() -> None:
    made, texts = masked(), tokens()
    hidden = made.hidden(texts)
    order = torch.randperm(len(hidden))
    assert made.hidden(texts[order]).equal(hidden[order])
    wider = Padded(F.pad(texts.values, (0, 7), value=9), F.pad(texts.mask, (0, 7)))
    assert made.hidden(wider)[:, :40].equal(hidden)
    assert made.hidden(texts).equal(hidden)
    made.advance(0.5)
    assert not made.hidden(texts).equal(hidden)
    again = masked()
    again.load_state_dict(made.state_dict())
    assert again.hidden(texts).equal(made.hidden(texts))


def test_the_cost_is_that_of_the_hidden_tokens_and_chunks_change_nothing() -> None:
    made, texts = masked(), tokens()
    cost, many = made(texts).unbind(1)
    hidden = made.hidden(texts)
    seen_by_it = Padded(texts.values.masked_fill(hidden, MASK), texts.mask)
    logits = made.head(made._net[0].hidden(seen_by_it))
    each = F.cross_entropy(logits.transpose(1, 2), texts.values, reduction="none")
    torch.testing.assert_close(cost, (each * hidden).sum(1))
    assert many.tolist() == hidden.sum(1).tolist()
    short = texts[texts.mask.sum(1) < 20]
    cut = Padded(short.values[:, :20], short.mask[:, :20])
    torch.testing.assert_close(made(cut), made(short))


def test_hidden_tokens_are_learned() -> None:
    """Texts that say one word again and again."""
    made = masked(share=0.3)
    start = torch.randint(4, VOCABULARY, (64, 1))
    texts = Padded(start.expand(-1, 12), torch.ones(64, 12, dtype=torch.bool))
    descent = torch.optim.Adam([*made.parameters(), *made._net[0].parameters()], lr=0.03)
    values = []
    for _ in range(60):
        cost, many = made(texts).sum(0)
        descent.zero_grad()
        (cost / many).backward()
        descent.step()
        made.advance(0.5)
        values.append(float((cost / many).detach()))
    assert values[0] > 2.5
    assert sum(values[-5:]) / 5 < 1.5


# Roles and words ------------------------------------------------------------------------------------------------------


def test_the_role_with_tokens_is_second_wherever_it_stands() -> None:
    turned = fitted(DeCLIP(**HEADS), {"text": "Text", "image": "Image"})
    assert turned.roles == ("text", "image")
    assert turned.pair_of() == ("image", "text")
    assert isinstance(turned, DeCLIP)
    assert turned.masking.mask == MASK
    assert (turned.least("image"), turned.least("text")) == (2, 1)
    named = fitted(DeCLIP(**HEADS, roles=("de", "text")), {"text": "Text", "de": "Text"})
    assert named.pair_of() == ("de", "text")
    loss = turned.loss(learner_of(turned).parts, seen(turned))
    assert set(loss) == {"clip", "simsiam", "mlm", "neighbours"}


def test_an_encoder_without_tokens_is_refused_in_plain_words() -> None:
    bag = fitted(DeCLIP(**HEADS), PICTURES, NgramBag(dim=8))
    with pytest.raises(
        WrongCall, match=r"of which NgramBag says nothing: take encoders.text=TextTransformer, or mlm=0"
    ):
        bag.build()
    nameless = Masking(vocabulary=VOCABULARY, special=SPECIAL)
    with pytest.raises(WrongCall, match="its tokenizer has none that hides others: mlm=0"):
        nameless.build(WORDS, torch.nn.Identity(), "text")
    without = fitted(DeCLIP(**HEADS, mlm=0.0), PICTURES, NgramBag(dim=8))
    assert set(without.loss(learner_of(without).parts, seen(without))) == {"clip", "simsiam", "neighbours"}


def test_which_encoders_say_something_of_each_token() -> None:
    """What they promise is as wide as what they give, also of no texts at all."""
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = Transformers(config={"model_type": "bert", "vocab_size": VOCABULARY, **sizes})
    pictures = Transformers(config={"model_type": "vit", "image_size": 16, "patch_size": 8, **sizes})
    words = WORDS.filled({"vocabulary": VOCABULARY, "length": 40})
    for encoder in (bert, words, Projected(encoder=words, dim=5), Saved(path="RUN", encoder=bert)):
        assert encoder.token_dim == 8
    for encoder in (pictures, NgramBag(), Projected(encoder=NgramBag(), dim=5), Residual()):
        assert encoder.token_dim is None
    for encoder in (bert, words, Projected(encoder=words, dim=5)):
        net: Any = encoder.build()
        for rows in (3, 0):
            assert net.hidden(tokens(3)[slice(0, rows)]).shape == (rows, 40, 8)


def table(folder: Path, shapes: Path) -> Path:
    """Pictures and captions, of which each third lacks one or the other."""
    rows = ["image,caption"]
    for n, path in enumerate(sorted(shapes.rglob("*.png"))):
        picture, caption = str(path) * (n % 3 != 1), f"a {path.parent.name} square, picture {n}" * (n % 3 != 2)
        rows.append(f'{picture},"{caption}"' if caption else f"{picture},")
    (folder / "partly.csv").write_text("\n".join(rows) + "\n")
    return folder / "partly.csv"


TOKENS = {"kind": "Trained", "vocabulary": 300}
SMALL: dict[str, Any] = {
    "batch": 12,
    "workers": 1,
    "device": "cpu",
    "precision": "float32",
    "embed_dim": 16,
    "projection": [16, 8],
    "prediction": 12,
    "encoders.image": {"kind": "Residual", "widths": [8, 16]},
    "encoders.text": {"kind": "TextTransformer", "dim": 16, "depth": 1, "heads": 2, "tokens": TOKENS},
}


def test_partly_paired_tables_are_learned_from_by_name(tmp_path: Path, shapes: Path) -> None:
    run = likeness.train(table(tmp_path, shapes), "declip", out=tmp_path / "run", steps=6, **SMALL)
    assert run.summary.steps == 6
    assert run.of("image").vectors.shape == run.of("text").vectors.shape == (32, 16)
    assert set(run.metrics[-1]["terms"]) == {"clip", "simsiam", "mlm", "neighbours"}


def test_a_single_view_of_pictures_is_refused(tmp_path: Path, shapes: Path) -> None:
    with pytest.raises(WrongCall, match=r"DeCLIP compares views of an item, and image.views=1: draw 2 at least"):
        likeness.train(table(tmp_path, shapes), "declip", out=tmp_path / "no", steps=2, **{**SMALL, "image.views": 1})


def test_what_siamese_views_guess_sends_nothing_back() -> None:
    """Values and gradients are those of SimSiam's loss, and 1."""
    siamese = Siamese(4, (6, 6), 5).eval()
    one = torch.randn(3, 4, requires_grad=True)
    term = siamese([Embeddings(one, Origin(torch.arange(3), torch.full((3,), view))) for view in (0, 1)])
    z = siamese.projector(one)
    expected = 1 - F.cosine_similarity(siamese.predictor.net(z), z.detach())
    value = term.total / term.count
    torch.testing.assert_close(value, expected.mean())
    given = torch.autograd.grad(value, one)[0]
    torch.testing.assert_close(given, torch.autograd.grad(expected.mean(), one)[0])
