"""The linear probe: against scikit-learn's logistic regression, its choice of C, and what may not come in."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.linear_probe import choose_features, evaluate_linear_probe, fit_linear_probe, macro_accuracy
from confu.evaluation.overlap import evaluate_overlap
from confu.evaluation.report import Report, summarise
from confu.plan import Subset

sklearn = pytest.importorskip("sklearn.linear_model")

IMAGE, AUDIO, BOTH = Subset("image"), Subset("audio"), Subset("image", "audio")
CS = (0.01, 1.0, 30.0)


def rows_of(n, dim, classes, signal=0.5, seed=0, offset=0.5):
    """Unit vectors about the middle of their class, all shifted to one side, in directions of unequal spread."""
    generator = torch.Generator().manual_seed(seed)
    middles = normalize(torch.randn(classes, dim, generator=generator), dim=1)
    labels = torch.arange(n) % classes
    noise = torch.randn(n, dim, generator=generator) * torch.logspace(0, -1.5, dim) * 2 / dim**0.5
    return normalize(signal * middles[labels] + noise + offset * middles[0], dim=1), labels


@pytest.mark.parametrize(
    "n, dim, classes, signal",
    [(300, 16, 4, 0.5), (12, 40, 4, 1.0), (200, 30, 2, 0.3), (60, 1, 3, 0.5)],
    ids=["overlapping", "fewer rows than numbers", "two classes", "one number"],
)
def test_the_gradient_of_the_objective_vanishes_at_the_probe(n, dim, classes, signal):
    x, y = rows_of(n, dim, classes, signal)
    for probe in fit_linear_probe(x, y, CS):
        weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
        loss = probe.c * cross_entropy(x.double() @ weight.T + bias, y, reduction="sum")
        penalty = (weight[1] - weight[0]) if classes == 2 else weight
        (loss + penalty.square().sum() / 2).backward()
        # Of the mean loss it is at most the tolerance, 1e-6; this leaves room for how it is scaled.
        assert float(weight.grad.abs().max()) <= 1e-5 * probe.c * n
        assert float(bias.grad.abs().max()) <= 1e-5 * probe.c * n


def test_a_sweep_of_cs_is_as_each_alone_in_any_order():
    x, y = rows_of(80, 12, 3)
    for c, probe in zip(CS[::-1], fit_linear_probe(x, y, CS[::-1])):
        (alone,) = fit_linear_probe(x, y, (c,))
        assert probe.c == c
        torch.testing.assert_close(probe.scores(x), alone.scores(x), rtol=0, atol=2e-2 * float(alone.scores(x).std()))


def test_labels_may_have_gaps_and_any_order():
    x, y = rows_of(60, 8, 3)
    names = torch.tensor([40, -3, 7])
    plain, gaps = fit_linear_probe(x, y)[0], fit_linear_probe(x, names[y])[0]
    assert gaps.classes.tolist() == [-3, 7, 40]
    assert torch.equal(gaps.predict(x), names[plain.predict(x)])


def test_a_collapsed_embedding_predicts_the_largest_class():
    x, y = normalize(torch.ones(10, 4), dim=1), torch.tensor([0] * 3 + [1] * 5 + [2] * 2)
    (probe,) = fit_linear_probe(x, y)
    assert float(probe.weight.abs().max()) < 1e-4
    expected = torch.tensor([[0.3, 0.5, 0.2]]).double()
    torch.testing.assert_close(probe.scores(x[:1]).softmax(dim=1), expected, rtol=0, atol=1e-4)


def test_a_fit_that_is_cut_off_says_so():
    x, y = rows_of(60, 8, 3)
    with pytest.warns(UserWarning, match="did not reach tolerance 1e-12 in 2 iterations for C = 1, 100"):
        fit_linear_probe(x, y, (1.0, 100.0), tolerance=1e-12, max_iterations=2)


def test_macro_accuracy_is_the_mean_recall():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    labels, predictions = torch.randint(4, (2, 60), generator=generator)
    expected = metrics.recall_score(labels, predictions, average="macro")
    assert macro_accuracy(predictions, labels) == pytest.approx(expected)


def tables(n=180, signal=0.35, missing=0):
    """Three splits; image and audio have noise of their own, so that both together tell more."""
    (image, labels), (audio, _) = rows_of(n, 12, 3, signal, seed=1), rows_of(n, 12, 3, signal, seed=2)
    mask = torch.arange(n) >= missing
    fused = normalize(image + audio, dim=1)
    table = EmbeddingTable(
        [str(i) for i in range(n)], {IMAGE: image, AUDIO: audio, BOTH: fused}, {AUDIO: mask, BOTH: mask}, labels
    )
    split = torch.arange(n) // 3 % 3
    return [table.select(split == part) for part in range(3)]


def test_the_evaluation_is_a_search_by_hand():
    train, validation, test = tables()
    features, cs = ["image", ("image", "audio")], (100.0, 0.01, 1.0, 10.0)
    result = evaluate_linear_probe(train, validation, test, features, cs, method="confu", seed=4)

    def vectors(table, names):
        return torch.cat([table[name] for name in names], dim=1).double().numpy()

    for name, names in (("image", ("image",)), ("concat(image, audio)", ("image", "audio"))):
        best, other = None, sklearn.LogisticRegression(tol=1e-6, max_iter=3000, warm_start=True)
        for c in sorted(cs):
            other.set_params(C=c).fit(vectors(train, names), train.labels.numpy())
            value = other.score(vectors(validation, names), validation.labels.numpy())
            assert result.validation[name][c] == pytest.approx(value)
            best = max(best or (value, -c), (value, -c))
        chosen = -best[1]
        both = torch.cat([train.labels, validation.labels]).numpy()
        x = torch.cat([torch.from_numpy(vectors(table, names)) for table in (train, validation)]).numpy()
        other = sklearn.LogisticRegression(C=chosen, tol=1e-6, max_iter=3000).fit(x, both)
        assert result.probes[name].c == chosen
        predicted = torch.from_numpy(other.predict(vectors(test, names)))
        assert torch.equal(result.predictions[name], predicted)
        found = {row.metric: row for row in result.rows if row.query == name}
        assert found["linear probe accuracy"].value == pytest.approx(float((predicted == test.labels).double().mean()))
        assert found["linear probe macro accuracy"].value == pytest.approx(macro_accuracy(predicted, test.labels))
        assert found["linear probe accuracy"].note.startswith(f"C = {chosen:g}")
    assert {(row.target, row.method, row.seed, row.count) for row in result.rows} == {("label", "confu", 4, len(test))}
    assert len(summarise([Report(result.rows)])) == 4


def test_both_modalities_tell_more_than_one():
    labels = torch.arange(48) % 4  # the image tells one half of the classes from the other, the audio odd from even
    image, audio = torch.eye(4)[labels // 2], torch.eye(4)[labels % 2]
    vectors = {IMAGE: image, AUDIO: audio, BOTH: torch.eye(4)[labels]}
    table = EmbeddingTable([str(i) for i in range(48)], vectors, labels=labels)
    result = evaluate_linear_probe(*(table.select(torch.arange(48) // 16 == part) for part in range(3)))
    assert {row.query: row.value for row in result.rows if row.metric == "linear probe accuracy"} == {
        "image": 0.5,
        "audio": 0.5,
        "image+audio": 1.0,
        "concat(image, audio)": 1.0,
        "concat(image, audio, image+audio)": 1.0,
    }


def test_each_feature_is_measured_on_its_complete_rows():
    train, validation, test = tables(missing=90)
    result = evaluate_linear_probe(train, validation, test, ["image", ("image", "audio")])
    counts = {row.query: row.count for row in result.rows}
    assert counts["image"] == len(test) > counts["concat(image, audio)"] == int(test.complete[AUDIO].sum())
    missing = ~test.complete[AUDIO]
    assert (result.predictions["concat(image, audio)"][missing] == -1).all()
    assert result.credit["concat(image, audio)"][missing].isnan().all()
    found = evaluate_overlap(result.credit, test.labels)
    assert found.left_out == int(missing.sum())


def test_a_class_may_be_missing_in_validation():
    train, validation, test = tables()
    two = validation.select(validation.labels != 1)
    result = evaluate_linear_probe(train, two, test, ["image"])
    assert set(result.probes["image"].classes.tolist()) == {0, 1, 2}


def test_without_refit_the_validation_rows_only_choose():
    train, validation, test = tables()
    result = evaluate_linear_probe(train, validation, test, ["image"], cs=(1.0,), refit=False)
    torch.testing.assert_close(result.probes["image"].weight, fit_linear_probe(train[IMAGE], train.labels)[0].weight)
    assert result.rows[0].note == "C = 1"


def test_the_smallest_c_wins_a_tie_and_the_edge_is_noted():
    train, validation, test = tables(signal=9.0)
    result = evaluate_linear_probe(train, validation, test, ["image"], cs=(100.0, 1.0, 10.0))
    assert set(result.validation["image"].values()) == {1.0}
    assert result.probes["image"].c == 1.0
    assert result.rows[0].note == "C = 1, the end of the range tried"


def test_default_features_of_one_modality_have_no_concatenation():
    table = EmbeddingTable(("a",), {IMAGE: torch.eye(1)})
    assert list(choose_features(table, None)) == ["image"]


def test_bad_rows_and_cs_are_refused(as_users_run):
    x, y = rows_of(12, 4, 3)
    with pytest.raises(ValueError, match=r"x must be finite; 1 of 48 numbers are NaN.*the first in row 2"):
        fit_linear_probe(x.index_put((torch.tensor([2]), torch.tensor([1])), torch.tensor(float("nan"))), y)
    with pytest.raises(ValueError, match="at least two classes; got class 2 only"):
        fit_linear_probe(x, torch.full((12,), 2))
    with pytest.raises(ValueError, match="at least two classes; got no row"):
        fit_linear_probe(x[:0], y[:0])
    with pytest.raises(ValueError, match="a label per row of x; got 11 for 12"):
        fit_linear_probe(x, y[:11])
    for cs in ((), (0.0,), (1.0, -1.0), (float("nan"),)):
        with pytest.raises(ValueError, match="cs must hold numbers above zero"):
            fit_linear_probe(x, y, cs)


def test_bad_tables_are_refused():
    train, validation, test = tables()
    with pytest.raises(ValueError, match="train, validation and test must be three tables"):
        evaluate_linear_probe(train, train, test)
    with pytest.raises(ValueError, match="the validation table has no labels"):
        evaluate_linear_probe(train, EmbeddingTable(validation.ids, validation.vectors), test)
    with pytest.raises(ValueError, match=r"the train table has no subset text; it has image, audio, image\+audio"):
        evaluate_linear_probe(train, validation, test, ["text"])
    less = EmbeddingTable(test.ids, {IMAGE: test[IMAGE]}, labels=test.labels)
    with pytest.raises(ValueError, match="the test table has no subset audio; it has image"):
        evaluate_linear_probe(train, validation, less, [("image", "audio")])
    narrow = EmbeddingTable(test.ids, {IMAGE: test[IMAGE][:, :5]}, labels=test.labels)
    with pytest.raises(ValueError, match="dims differ: train 12, validation 12, test 5"):
        evaluate_linear_probe(train, validation, narrow, ["image"])
    bad = EmbeddingTable(test.ids, {IMAGE: test[IMAGE] * float("nan")}, labels=test.labels)
    with pytest.raises(ValueError, match="test table, image must be finite"):
        evaluate_linear_probe(train, validation, bad, ["image"])
    empty = EmbeddingTable(test.ids, test.vectors, {IMAGE: torch.zeros(len(test), dtype=torch.bool)}, test.labels)
    with pytest.raises(ValueError, match="no row of the test table is complete for image"):
        evaluate_linear_probe(train, validation, empty, ["image"])


def test_bad_labels_and_features_are_refused():
    train, validation, test = tables()
    with pytest.raises(ValueError, match=r"1 labels of the test table are in no row that the probe is fitted on.*is 1"):
        evaluate_linear_probe(train.select(train.labels != 1), validation.select(validation.labels != 1), test)
    with pytest.raises(ValueError, match="at least two classes; got class 0 only"):
        evaluate_linear_probe(*(table.select(table.labels == 0) for table in (train, validation, test)))
    negative = EmbeddingTable(test.ids, test.vectors, labels=test.labels - 1)
    with pytest.raises(ValueError, match="labels must be class indices from 0; row 0 of the test table has -1"):
        evaluate_linear_probe(train, validation, negative)
    with pytest.raises(ValueError, match="features must name at least one feature, and each once; got image, image"):
        evaluate_linear_probe(train, validation, test, ["image", IMAGE])
    with pytest.raises(ValueError, match="a feature names at least one subset, and each once; got image, image"):
        evaluate_linear_probe(train, validation, test, [("image", "image")])
    with pytest.raises(ValueError, match="got none"):
        evaluate_linear_probe(train, validation, test, [])
