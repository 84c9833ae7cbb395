"""Few-shot probes: what is drawn, against scikit-learn on the same rows, and classes that are too small."""

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.few_shot import RELEASED_SHOTS, draw_supports, evaluate_few_shot
from confu.evaluation.plots import lines, to_svg
from confu.evaluation.report import Report, summarise
from confu.plan import Subset

IMAGE, AUDIO, BOTH = Subset("image"), Subset("audio"), Subset("image", "audio")


def table_of(n=120, classes=3, missing=0, seed=0, signal=0.7):
    generator = torch.Generator().manual_seed(7)
    middles = normalize(torch.randn(2, classes, 10, generator=generator), dim=2)
    labels = torch.arange(n) % classes
    noise = torch.randn(2, n, 10, generator=torch.Generator().manual_seed(seed)) * 0.4
    image, audio = normalize(signal * middles[:, labels] + noise, dim=2)
    mask = torch.arange(n) >= missing
    return EmbeddingTable(
        [str(i) for i in range(n)],
        {IMAGE: image, AUDIO: audio, BOTH: normalize(image + audio, dim=1)},
        {AUDIO: mask, BOTH: mask},
        labels,
    )


def test_supports_are_nested_balanced_and_distinct():
    labels = torch.tensor([3, 0, 3, 8] * 12)
    supports = draw_supports(labels, shots=(4, 1, 2), repeats=5)
    for number, draws in supports.items():
        assert draws.shape == (5, 3 * number)
        for rows in draws:
            assert len(set(rows.tolist())) == 3 * number
            assert torch.bincount(labels[rows])[[0, 3, 8]].tolist() == [number] * 3
    for small, large in ((1, 2), (2, 4)):
        for few, more in zip(supports[small].tolist(), supports[large].tolist()):
            assert set(few) < set(more)
    assert len({tuple(rows) for rows in supports[4].tolist()}) == 5


def test_supports_depend_on_the_seed_alone():
    labels = torch.arange(40) % 4
    supports = draw_supports(labels, (1, 4), repeats=6, draw_seed=1)
    assert torch.equal(draw_supports(labels, (4,), repeats=2, draw_seed=1)[4], supports[4][:2])
    assert not torch.equal(draw_supports(labels, (4,), repeats=2, draw_seed=2)[4], supports[4][:2])


def test_every_row_is_drawn_as_often():
    labels = torch.arange(20) % 2
    counts = torch.bincount(draw_supports(labels, (1,), repeats=2000)[1].flatten(), minlength=20)
    assert float((counts / 200 - 1).abs().max()) < 0.5  # seven standard deviations


@pytest.mark.parametrize("own", [False, True], ids=["a table of queries", "the rest of the table"])
def test_accuracies_are_those_of_scikit_learn(own):
    sklearn = pytest.importorskip("sklearn.linear_model")
    support, queries = table_of(), None if own else table_of(n=60, seed=1)
    features, shots = ["image", "image+audio", ("image", "audio")], (1, 4)
    result = evaluate_few_shot(support, queries, features, shots, repeats=3, draw_seed=5)
    drawn = draw_supports(support.labels, shots, repeats=3, draw_seed=5)
    parts = {"image": [IMAGE], "image+audio": [BOTH], "concat(image, audio)": [IMAGE, AUDIO]}
    for name, subsets in parts.items():
        for i, number in enumerate(shots):
            for j, rows in enumerate(drawn[number]):
                asked = support if queries is None else queries
                rest = torch.tensor([row for row in range(len(asked)) if not own or row not in rows.tolist()])
                x = torch.cat([support[one] for one in subsets], dim=1)[rows]
                q = torch.cat([asked[one] for one in subsets], dim=1)[rest]
                other = sklearn.LogisticRegression(C=1.0, max_iter=3000, tol=1e-6)
                other.fit(x.double().numpy(), support.labels[rows].numpy())
                expected = other.score(q.double().numpy(), asked.labels[rest].numpy())
                assert float(result.accuracies[name][i, j]) == pytest.approx(expected)


def test_rows_hold_the_mean_and_the_curve_the_deviation():
    result = evaluate_few_shot(table_of(), features=["image", "audio"], repeats=4, method="confu", seed=2)
    assert result.shots == (1, 2, 4, 8, 16)
    assert [(row.metric, row.query) for row in result.rows[4:6]] == [
        ("16-shot accuracy", "image"),
        ("1-shot accuracy", "audio"),
    ]
    assert {row.metric: row.count for row in result.rows if row.query == "image"}["16-shot accuracy"] == 120 - 48
    assert {(row.target, row.method, row.seed) for row in result.rows} == {("label", "confu", 2)}
    means, stds = result.curve("audio")
    for i, row in enumerate(result.rows[5:]):
        values = result.accuracies["audio"][i]
        assert row.value == pytest.approx(float(values.mean())) == pytest.approx(means[i] / 100)
        assert stds[i] == pytest.approx(100 * float(values.std()))
        assert row.note == f"mean of 4 draws, std {float(values.std()):.4f}; C = 1"
    assert len(summarise([Report(result.rows)])) == len(result.rows)
    assert "audio" in to_svg(lines(result.shots, {name: result.curve(name) for name in ("image", "audio")}))


def test_more_shots_help_and_a_single_repeat_has_no_deviation():
    result = evaluate_few_shot(table_of(n=300), table_of(n=300, seed=1), ["image"], RELEASED_SHOTS, repeats=1)
    means, stds = result.curve("image")
    assert stds is None
    assert means[-1] > means[0] + 5
    assert result.rows[0].note == "mean of 1 draws; C = 1"


def test_all_features_learn_from_rows_that_are_complete_for_all():
    support, queries = table_of(missing=60), table_of(n=90, missing=30, seed=1)
    both = evaluate_few_shot(support, queries, ["image", "audio"], (2,), repeats=3)
    complete = support.select(support.complete[AUDIO])
    alone = evaluate_few_shot(complete, queries, ["image"], (2,), repeats=3)
    assert torch.equal(both.accuracies["image"], alone.accuracies["image"])
    assert {row.query: row.count for row in both.rows} == {"image": 90, "audio": 60}


def test_a_class_that_is_too_small_is_named():
    support = table_of(n=21).select(torch.tensor([0, 3, 6, 9, 1, 4, 7, 2, 5, 8, 11]))
    with pytest.raises(
        ValueError,
        match=r"4 shots need 4 rows of each class; 1 of 3 classes have fewer. Class 'wren' \(label 1\) has 3: ask for "
        r"at most 3 shots, or leave such classes out",
    ):
        evaluate_few_shot(support, table_of(), shots=(1, 4), class_names=["owl", "wren", "tit"])
    with pytest.raises(ValueError, match="Class 1 has 3"):
        evaluate_few_shot(support, table_of(), shots=(1, 4))


def test_bad_input_is_refused():
    support = table_of(n=30)
    with pytest.raises(ValueError, match="queries is the support table itself; give None"):
        evaluate_few_shot(support, support)
    with pytest.raises(ValueError, match="10 shots of each class take every row"):
        evaluate_few_shot(support, features=["image"], shots=(10,), repeats=1)
    with pytest.raises(ValueError, match=r"1 labels of the queries table are in no row.*the first is 3"):
        evaluate_few_shot(support, table_of(classes=4, n=40), ["image"], (1,))
    with pytest.raises(ValueError, match="the queries table has no labels"):
        evaluate_few_shot(support, EmbeddingTable(support.ids, support.vectors), ["image"], (1,))
    with pytest.raises(ValueError, match="the support table has no subset text"):
        evaluate_few_shot(support, table_of(), ["text"], (1,))
    with pytest.raises(ValueError, match="support has dim 10, queries 4"):
        evaluate_few_shot(support, EmbeddingTable(("a",), {IMAGE: torch.eye(4)[:1]}))
    with pytest.raises(ValueError, match="support table, audio must be finite"):
        evaluate_few_shot(
            EmbeddingTable(support.ids, {AUDIO: support[AUDIO] * float("nan")}, labels=support.labels), shots=(1,)
        )
    for shots in ((), (0,), (2, 2)):
        with pytest.raises(ValueError, match="shots must hold numbers from 1, each once"):
            draw_supports(support.labels, shots)
    with pytest.raises(ValueError, match="repeats must be 1 or more; got 0"):
        draw_supports(support.labels, (1,), repeats=0)
    result = evaluate_few_shot(support, features=["image"], shots=(1,), repeats=1)
    with pytest.raises(ValueError, match="there is no curve of 'audio'; there are image"):
        result.curve("audio")
