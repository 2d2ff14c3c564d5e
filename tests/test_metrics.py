"""Metrics over batches: values by plain formulas and scikit-learn's, merging, and updates that wait for nothing."""

import math

import flambeau as fb
import numpy as np
import pytest
from flambeau import metrics, nn
from flambeau.runtime import recorder

RNG = np.random.default_rng(7)
SCORES = RNG.normal(size=(60, 4)).round(1).astype(np.float32)  # rounded: some are equal
CLASSES = np.where(RNG.random(60) < 0.5, SCORES.argmax(1), RNG.integers(0, 4, 60))
ONE, TRUTH = RNG.random(60).round(1).astype(np.float32), RNG.integers(0, 2, 60)


def over_batches(metric, *arrays):
    """What a metric gives after three batches of other sizes."""
    for start, end in ((0, 25), (25, 50), (50, 60)):
        metric.update(*(fb.tensor(a[start:end]) for a in arrays))
    return metric.compute().numpy()


def by_class(predicted, actual, count):
    """(hits, predicted, there) of each class, counted one by one."""
    return np.array(
        [[sum((predicted == c) & (actual == c)), sum(predicted == c), sum(actual == c)] for c in range(count)]
    ).T


# ---- classes ------------------------------------------------------------------------------------------------------


@pytest.mark.accept("OBS-11")
@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
def test_shares_of_many_classes(average):
    hits, predicted, actual = by_class(SCORES.argmax(1), CLASSES, 4)
    pairs = {"Precision": (hits, predicted), "Recall": (hits, actual), "F1Score": (2 * hits, predicted + actual)}
    for name, (part, whole) in {**pairs, "Accuracy": (hits, actual)}.items():
        shares = part / whole
        wanted = {"micro": part.sum() / whole.sum(), "macro": shares.mean(), None: shares}
        wanted["weighted"] = (shares * actual).sum() / actual.sum()
        found = over_batches(getattr(metrics, name)(4, average=average), SCORES, CLASSES)
        np.testing.assert_allclose(found, wanted[average], rtol=1e-6)


@pytest.mark.accept("OBS-11")
@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
def test_shares_are_those_of_scikit_learn(average):
    import sklearn.metrics as theirs

    predicted = np.where(SCORES.argmax(1) == 3, 0, SCORES.argmax(1))  # nothing is taken for class 3
    for ours, other in (("Precision", "precision_score"), ("Recall", "recall_score"), ("F1Score", "f1_score")):
        wanted = getattr(theirs, other)(CLASSES, predicted, average=average, zero_division=0)
        found = over_batches(getattr(metrics, ours)(4, average=average), predicted, CLASSES)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    balanced = theirs.balanced_accuracy_score(CLASSES, predicted)
    np.testing.assert_allclose(
        over_batches(metrics.Accuracy(4, average="macro"), predicted, CLASSES), balanced, rtol=1e-6
    )
    for normalize in (None, "true", "pred", "all"):
        wanted = theirs.confusion_matrix(CLASSES, predicted, normalize=normalize)
        found = over_batches(metrics.ConfusionMatrix(4, normalize=normalize), predicted, CLASSES)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_two_classes():
    predicted = ONE >= 0.6
    hits = (predicted & (TRUTH == 1)).sum()
    wanted = {
        "Precision": hits / predicted.sum(),
        "Recall": hits / TRUTH.sum(),
        "Accuracy": (predicted == TRUTH).mean(),
    }
    wanted["F1Score"] = 2 * hits / (predicted.sum() + TRUTH.sum())
    for name, value in wanted.items():
        np.testing.assert_allclose(over_batches(getattr(metrics, name)(threshold=0.6), ONE, TRUTH), value, rtol=1e-6)
    found = over_batches(metrics.ConfusionMatrix(threshold=0.6), ONE, TRUTH)
    assert found.tolist() == [[((i == TRUTH) & (predicted == j)).sum() for j in (0, 1)] for i in (0, 1)]


@pytest.mark.accept("OBS-11")
def test_the_largest_scores_and_places_that_do_not_count():
    order = np.argsort(-SCORES, axis=1, kind="stable")
    distinct = SCORES + np.arange(4, dtype=np.float32) * -1e-3  # the first of equal ones is the largest
    near = (order[:, :2] == CLASSES[:, None]).any(1)
    np.testing.assert_allclose(over_batches(metrics.TopKAccuracy(2), distinct, CLASSES), near.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics.topk_accuracy(fb.tensor(distinct), fb.tensor(CLASSES), 4).item(), 1.0)
    kept = CLASSES != 2
    for metric in (metrics.Accuracy(ignore_index=2), metrics.Accuracy(4, ignore_index=2)):
        right = (SCORES.argmax(1) == CLASSES)[kept].mean()
        np.testing.assert_allclose(over_batches(metric, SCORES, CLASSES), right, rtol=1e-6)
    images = fb.tensor(SCORES.reshape(3, 20, 4).transpose(0, 2, 1))  # [N, C, places]
    right = (SCORES.argmax(1) == CLASSES).mean()
    np.testing.assert_allclose(metrics.accuracy(images, fb.tensor(CLASSES.reshape(3, 20)), 4).item(), right, rtol=1e-6)


# ---- order --------------------------------------------------------------------------------------------------------


def areas(scores, is_class):
    """(AUROC, average precision) pair by pair."""
    good, bad = scores[is_class], scores[~is_class]
    pairs = (good[:, None] > bad).mean() + (good[:, None] == bad).mean() / 2
    return pairs, np.mean([is_class[scores >= s].mean() for s in good])


@pytest.mark.accept("OBS-11")
def test_areas_under_curves():
    found = [over_batches(cls(), ONE, TRUTH) for cls in (metrics.AUROC, metrics.AveragePrecision)]
    np.testing.assert_allclose(found, areas(ONE, TRUTH == 1), rtol=1e-6)
    each = np.array([areas(SCORES[:, c], c == CLASSES) for c in range(4)])
    shares = np.bincount(CLASSES) / 60
    for i, cls in enumerate((metrics.AUROC, metrics.AveragePrecision)):
        np.testing.assert_allclose(over_batches(cls(4, average=None), SCORES, CLASSES), each[:, i], rtol=1e-6)
        np.testing.assert_allclose(over_batches(cls(4), SCORES, CLASSES), each[:, i].mean(), rtol=1e-6)
        weighted = over_batches(cls(4, average="weighted"), SCORES, CLASSES)
        np.testing.assert_allclose(weighted, each[:, i] @ shares, rtol=1e-6)
    assert np.isnan(metrics.AUROC().compute().item())
    one_kind = metrics.auroc(fb.tensor([[0.5, 0.1], [0.2, 0.3]]), fb.tensor([0, 0]), 2, average=None)
    assert np.isnan(one_kind.numpy()).all()


def test_areas_are_those_of_scikit_learn():
    import sklearn.metrics as theirs

    one, truth = fb.tensor(ONE), fb.tensor(TRUTH)
    assert metrics.auroc(one, truth).item() == pytest.approx(theirs.roc_auc_score(TRUTH, ONE), rel=1e-6)
    assert metrics.average_precision(one, truth).item() == pytest.approx(
        theirs.average_precision_score(TRUTH, ONE), rel=1e-6
    )
    shares = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
    wanted = theirs.roc_auc_score(CLASSES, shares, multi_class="ovr")
    assert metrics.auroc(fb.tensor(shares), fb.tensor(CLASSES), 4).item() == pytest.approx(wanted, rel=1e-5)


# ---- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.accept("OBS-11")
def test_errors_of_numbers():
    target = (SCORES + RNG.normal(size=SCORES.shape) / 3 + 1e4).astype(np.float32)
    x, y = (SCORES + 1e4).astype(np.float32).astype(float), target.astype(float)
    arrays = x.astype(np.float32), target
    np.testing.assert_allclose(over_batches(metrics.MeanSquaredError(), *arrays), ((x - y) ** 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(
        over_batches(metrics.MeanSquaredError(squared=False), *arrays), ((x - y) ** 2).mean() ** 0.5, rtol=1e-6
    )
    np.testing.assert_allclose(over_batches(metrics.MeanAbsoluteError(), *arrays), abs(x - y).mean(), rtol=1e-6)
    whole = 1 - ((x - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    each = 1 - ((x - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(over_batches(metrics.R2Score(), *arrays), whole, rtol=1e-5)
    np.testing.assert_allclose(over_batches(metrics.R2Score(4), *arrays), each.mean(), rtol=1e-5)
    np.testing.assert_allclose(over_batches(metrics.R2Score(4, multioutput="raw_values"), *arrays), each, rtol=1e-5)
    found = metrics.r2_score(fb.tensor(arrays[0]), fb.tensor(target), 4).item()
    assert found == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("predicted", "actual", "score"), [((3, 3), (3, 3), 1.0), ((3, 4), (3, 3), 0.0), ((1,), (2,), np.nan)]
)
def test_equal_targets_leave_nothing_to_explain(predicted, actual, score):
    predicted, actual = fb.tensor(predicted, dtype=fb.float32), fb.tensor(actual, dtype=fb.float32)
    np.testing.assert_equal(metrics.r2_score(predicted, actual).item(), score)


def test_a_batch_without_elements_changes_no_mean():
    metric = metrics.R2Score()
    for part in ([], [1.0, 2.0, 3.0], []):
        metric.update(fb.tensor(part), fb.tensor(part))
    assert metric.compute().item() == 1.0


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1_score", "confusion_matrix"])
@pytest.mark.parametrize("wrong", [-1, 2, -100])
def test_what_is_no_class_is_refused(name, wrong):
    metric, good, bad = getattr(metrics, name), fb.tensor([0, 1, 1]), fb.tensor([0, 1, wrong])
    cases = [(good, bad, 2)]
    if name != "accuracy":  # of two classes that only compares
        cases.append((fb.tensor([0.1, 0.9, 0.7]), bad, None))
    if name not in ("accuracy", "recall"):  # these do not ask how often a class was predicted
        cases += [(bad, good, None), (bad, good, 2)]
    for predicted, actual, count in cases:
        with pytest.raises(IndexError, match="out of range"):
            metric(predicted, actual, count).tolist()
    assert metric(good, bad, 2, ignore_index=wrong).tolist() is not None


def test_areas_of_scores_with_a_nan_are_nan():
    scores, classes = fb.tensor([0.1, math.nan, 0.8, 0.4]), fb.tensor([0, 1, 1, 0])
    assert metrics.auroc(scores, classes).isnan().item() and metrics.average_precision(scores, classes).isnan().item()
    both = metrics.auroc(fb.stack([scores, 1 - fb.nan_to_num(scores)], 1), classes, 2, average=None)
    assert both.isnan().tolist() == [True, False]


def test_perplexity():
    tokens = np.where(np.arange(60) % 7 == 0, -100, CLASSES).reshape(15, 4)
    scores = SCORES.astype(float)
    nll = np.log(np.exp(scores).sum(1)) - scores[np.arange(60), CLASSES]
    wanted = np.exp(nll[tokens.reshape(-1) >= 0].mean())
    metric = metrics.Perplexity()
    for part in (slice(0, 10), slice(10, 15)):
        metric.update(fb.tensor(SCORES.reshape(15, 4, 4)[part]), fb.tensor(tokens[part]))
    assert metric.compute().item() == pytest.approx(wanted, rel=1e-5)
    assert metrics.perplexity(fb.zeros(2, 3, 5), fb.zeros(2, 3, dtype=fb.int64)).item() == pytest.approx(5.0)


@pytest.mark.accept("OBS-04", "OBS-05")
def test_numbers_of_an_epoch():
    mean, total, largest, least, last = (
        getattr(metrics, name)() for name in ("Mean", "Sum", "Max", "Min", "RunningMean")
    )
    last = metrics.RunningMean(window=3)
    for value in (3.0, -1.0, fb.tensor([2.0, 6.0]), 5):
        for metric in (mean, total, largest, least, last):
            metric.update(value)
    assert mean.compute().item() == 3.0 and total.compute().item() == 15.0
    assert largest.compute().item() == 6.0 and least.compute().item() == -1.0
    assert last.compute().item() == pytest.approx((-1.0 + 4.0 + 5.0) / 3)
    mean.reset()
    mean.update(fb.tensor([1.0, 4.0]), weight=fb.tensor([3.0, 1.0]))
    assert mean.compute().item() == 1.75 and np.isnan(metrics.Mean().compute().item())


# ---- what all have in common -------------------------------------------------------------------------------------


@pytest.mark.accept("OBS-04", "OBS-11")
def test_a_training_loop_waits_for_no_metric():
    net, x, y = nn.Linear(4, 3), fb.tensor(SCORES), fb.tensor(np.minimum(CLASSES, 2))
    optimizer = fb.optim.SGD(net.parameters(), lr=0.1)
    losses, right = metrics.Mean(), metrics.MetricCollection([metrics.Accuracy(3), metrics.F1Score(3)])

    def step():
        optimizer.zero_grad()
        scores = net(x)
        loss = nn.functional.cross_entropy(scores, y)
        loss.backward()
        losses.update(loss)
        right.update(scores, y)
        optimizer.step()

    for _ in range(3):
        step()
    before = recorder.stats()
    for _ in range(3):
        step()
    after = recorder.stats()
    assert after["flushes"] - before["flushes"] == 3  # one for each step of the optimizer
    assert after["builds"] == before["builds"] and after["misses"] == before["misses"]
    found = right.compute()
    assert losses.weight.item() == 6.0 and right["Accuracy"].actual.sum().item() == 6 * 60
    assert set(found) == {"Accuracy", "F1Score"} and 0 < found["Accuracy"].item() <= 1


@pytest.mark.accept("OBS-11")
def test_parts_are_merged():
    pairs, numbers = (SCORES, CLASSES), (SCORES, SCORES * np.float32(0.9))
    for make, arrays in (
        (lambda: metrics.Accuracy(4, average="macro"), pairs),
        (lambda: metrics.ConfusionMatrix(4), pairs),
        (lambda: metrics.AUROC(4), pairs),
        (lambda: metrics.R2Score(4), numbers),
        (metrics.Max, numbers[:1]),
    ):
        several = [make() for _ in range(3)]
        for part, each in zip((slice(0, 25), slice(25, 40), slice(40, 60)), several):
            each.update(*(fb.tensor(a[part]) for a in arrays))
        merged = several[0].merge_state(several[1:]).compute().numpy()
        np.testing.assert_allclose(merged, over_batches(make(), *arrays), rtol=1e-6)
    with pytest.raises(TypeError, match=r"\[Max\] a Min cannot be merged into it"):
        metrics.Max().merge_state([metrics.Min()])
    with pytest.raises(RuntimeError, match=r"\[RunningMean\] two of them cannot be merged"):
        metrics.RunningMean().merge_state([metrics.RunningMean()])


def test_a_call_is_a_batch_and_counts_for_all():
    metric = metrics.Accuracy()
    assert metric(fb.tensor([1, 1, 0]), fb.tensor([1, 1, 1])).item() == pytest.approx(2 / 3)
    assert metric(fb.tensor([1]), fb.tensor([0])).item() == 0.0
    assert metric.compute().item() == 0.5
    total = metrics.Sum()
    first = total.compute()
    total.update(2.0)
    assert first.item() == 0.0 and total(3.0).item() == 3.0 and total.compute().item() == 5.0
    total.reset()
    assert total.compute().item() == 0.0
    collection = metrics.MetricCollection({"a": metrics.Accuracy(), "b": metrics.ConfusionMatrix()})
    found = collection(fb.tensor([1, 0]), fb.tensor([1, 1]))
    assert found["a"].item() == 0.5 and found["b"].tolist() == [[0, 0], [1, 1]] and len(collection) == 2
    collection.reset()
    assert collection.compute()["b"].tolist() == [[0, 0], [0, 0]]


def test_metrics_of_ones_own_are_modules():
    class Share(metrics.Metric):
        def __init__(self):
            super().__init__()
            self.add_state("above", fb.zeros((), dtype=fb.float64), persistent=True)
            self.add_state("seen", [], "cat")

        def update(self, x):
            self.above += (x > 0).sum()
            self.seen.append(x)

        def compute(self):
            return self.above / sum(x.numel() for x in self.seen)

    model = nn.Linear(2, 2)
    model.share = Share()
    x = fb.tensor([1.0, -1.0, 2.0, 3.0], requires_grad=True)
    model.share.update(x)
    assert model.share.compute().item() == 0.75 and not model.share.above.requires_grad
    assert "share.above" in model.state_dict() and "accuracy.hits" not in model.state_dict()
    model.accuracy = metrics.Accuracy()
    assert not [k for k in model.state_dict() if k.startswith("accuracy")]
    assert model.half().share.above.dtype is fb.float64 and model.weight.dtype is fb.float16
    assert "num_classes" not in repr(model.accuracy) and model.share(x.detach()).item() == 0.75


def test_what_metrics_refuse():
    scores, classes = fb.tensor(SCORES), fb.tensor(CLASSES)
    for call, error, text in (
        (lambda: metrics.Accuracy(1), ValueError, r"\[Accuracy\] num_classes is 1. Use at least 2"),
        (lambda: metrics.Accuracy(top_k=0), ValueError, r"\[Accuracy\] top_k is 0"),
        (lambda: metrics.Recall(4, average="all"), ValueError, r"\[Recall\] average is 'all'"),
        (lambda: metrics.AUROC(4, average="micro"), ValueError, r"\[AUROC\] average is 'micro'"),
        (lambda: metrics.ConfusionMatrix(normalize="row"), ValueError, r"\[ConfusionMatrix\] normalize is 'row'"),
        (lambda: metrics.RunningMean(0), ValueError, r"\[RunningMean\] window is 0"),
        (lambda: metrics.R2Score(multioutput="sum"), ValueError, r"\[R2Score\] multioutput is 'sum'"),
        (lambda: metrics.precision(scores, classes), ValueError, r"\[Precision\] input is float32 of shape \(60, 4\)"),
        (
            lambda: metrics.accuracy(scores, classes, 5),
            ValueError,
            r"Pass scores \[N, 5, ...\], or classes like the target",
        ),
        (lambda: metrics.accuracy(classes, classes, top_k=2), ValueError, r"\[Accuracy\] input is int64"),
        (lambda: metrics.auroc(scores, classes), ValueError, r"\[AUROC\] input has shape \(60, 4\), target \(60,\)"),
        (
            lambda: metrics.mean_squared_error(scores, classes),
            ValueError,
            r"\[MeanSquaredError\] input has shape \(60, 4\)",
        ),
        (
            lambda: metrics.r2_score(classes, classes, 2),
            ValueError,
            r"\[R2Score\] input has shape \(60,\). Pass \[N, 2\]",
        ),
        (lambda: metrics.perplexity(scores, classes[:3]), ValueError, r"\[Perplexity\] input has shape \(60, 4\)"),
        (lambda: metrics.recall(classes, classes + 1, 4).item(), IndexError, "is out of range for axis 0 of shape"),
        (lambda: metrics.MetricCollection([metrics.Max(), metrics.Max()]), ValueError, "two metrics 'Max'"),
        (lambda: metrics.Metric().update(1), NotImplementedError, r"\[Metric\] it has no update"),
        (lambda: metrics.Metric().add_state("x", fb.zeros(1), "mean"), ValueError, "dist_reduce_fx of x is 'mean'"),
        (lambda: metrics.Metric().add_state("x", [1], "cat"), ValueError, "Begin with an empty one"),
    ):
        with pytest.raises(error, match=text):
            call()
