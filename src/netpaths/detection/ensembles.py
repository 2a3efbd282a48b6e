"""Tree ensembles: grown by scikit-learn, kept and scored as plain arrays, so that loading needs neither it
nor pickle.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from netpaths.detection.base import Detector, column_fill, fill_missing
from netpaths.detection.features import Bools, Floats, Ints, Names
from netpaths.errors import BadOption


@dataclass(frozen=True, eq=False)
class Trees:
    """A sum of decision trees, all nodes in one table; a leaf is its own child.

    ``roots`` (trees,); per node: ``left`` and ``right`` node numbers, ``feature`` column, ``threshold`` (go
    left when ≤), ``value``. ``offset`` (1,) is added to the sum of the reached leaves' values.
    """

    roots: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    value: Floats
    offset: Floats

    @staticmethod
    def of(trees: Sequence[Any], values: Sequence[Floats], offset: float = 0.0) -> Trees:
        """Gather fitted scikit-learn ``trees`` with ``values``, one array of node values for each tree."""
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        shift, here = np.repeat(roots, sizes), np.arange(sizes.sum())

        def table(attribute: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(tree, attribute) for tree in trees])

        return Trees(
            roots=roots,
            left=np.where(leaf, here, table("children_left") + shift),
            right=np.where(leaf, here, table("children_right") + shift),
            feature=np.where(leaf, 0, table("feature")).astype(np.int64),
            threshold=table("threshold").astype(np.float64),
            value=np.concatenate(values).astype(np.float64),
            offset=np.array([offset], dtype=np.float64),
        )

    def check(self, columns: int) -> None:
        """Raise ValueError unless every node leads to later nodes of the table, and reads one of ``columns``."""
        nodes = len(self.left)
        tables = (self.left, self.right, self.feature, self.threshold, self.value)
        if any(table.shape != (nodes,) for table in tables) or self.offset.shape != (1,) or self.roots.ndim != 1:
            raise ValueError("the tables of its trees differ in length")
        if any(table.dtype.kind != "i" for table in (self.roots, self.left, self.right, self.feature)):
            raise ValueError("the tables of its trees do not hold whole numbers")
        here, leaf = np.arange(nodes), self.left == self.right
        for table in (self.left, self.right):
            if not (np.where(leaf, table == here, table > here) & (table < nodes)).all():
                raise ValueError("a node of its trees leads back or nowhere")
        for table, end in ((self.roots, nodes), (self.feature, columns)):
            if table.size and not 0 <= table.min() <= table.max() < end:
                raise ValueError("its trees begin or look outside of their tables")

    def sum(self, values: Floats) -> Floats:
        """The ensemble's output (n,) for ``values`` (n, d); compared in float32, as scikit-learn does."""
        rows = values.astype(np.float32)
        number = np.arange(len(rows))[:, None]
        node = np.tile(self.roots, (len(rows), 1))  # (n, trees)
        while True:
            goes_left = rows[number, self.feature[node]] <= self.threshold[node]
            following = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(following, node):
                return np.asarray(self.offset[0] + self.value[node].sum(axis=1))
            node = following


class _Ensemble(Detector):
    """A scikit-learn ensemble of ``trees`` trees; NaN becomes the median of its column in the fitted set."""

    def __init__(self, trees: int = 100, seed: int = 0) -> None:
        self.trees = trees
        self.seed = seed

    def _fit(self, values: Floats, adversarial: Bools, names: Names) -> None:
        if self.trees < 1:
            raise BadOption(f"trees must be at least 1, not {self.trees}")
        self.fill_ = column_fill(values, np.median)
        self.trees_ = self._grow(fill_missing(values, self.fill_), adversarial.astype(np.int64))

    def _score(self, values: Floats) -> Floats:
        return self.trees_.sum(fill_missing(values, self.fill_))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        table = {field.name: getattr(self.trees_, field.name) for field in fields(Trees)}
        return {"fill": self.fill_, **table}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.fill_ = arrays["fill"]
        self.trees_ = Trees(**{field.name: arrays[field.name] for field in fields(Trees)})
        self.trees_.check(len(self.fill_))

    @abstractmethod
    def _grow(self, values: Floats, truth: Ints) -> Trees:
        """Grow the ensemble on values without NaN (n, d) and truth (n,), 1 = adversarial."""


class RandomForest(_Ensemble):
    """Share of adversarial images in the reached leaves, averaged over the trees: a score in [0, 1].

    Source: Qiu et al., CVPR 2019, with the artifact's settings (100 trees, scikit-learn's defaults otherwise).
    """

    name = "forest"

    def _grow(self, values: Floats, truth: Ints) -> Trees:
        from sklearn.ensemble import RandomForestClassifier

        grown = RandomForestClassifier(self.trees, random_state=self.seed).fit(values, truth)
        trees = [member.tree_ for member in grown.estimators_]
        shares = [tree.value[:, 0, 1] / tree.value[:, 0, :].sum(axis=1) for tree in trees]
        return Trees.of(trees, [share / len(trees) for share in shares])


class GradientBoosting(_Ensemble):
    """Log-odds of being adversarial from boosted regression trees.

    Source: Qiu et al., CVPR 2019, with the artifact's settings (100 trees, scikit-learn's defaults otherwise).
    """

    name = "boosting"

    def _grow(self, values: Floats, truth: Ints) -> Trees:
        from sklearn.ensemble import GradientBoostingClassifier

        grown = GradientBoostingClassifier(n_estimators=self.trees, random_state=self.seed).fit(values, truth)
        trees = [member.tree_ for member in grown.estimators_[:, 0]]
        steps = [grown.learning_rate * tree.value[:, 0, 0] for tree in trees]
        share = truth.mean()
        return Trees.of(trees, steps, offset=float(np.log(share / (1 - share))))


class AdaBoost(_Ensemble):
    """Weighted vote of boosted stumps (SAMME): a score in [−2, 2]; 0 for all where no stump beats chance.

    Source: Qiu et al., CVPR 2019, with the artifact's settings (50 stumps, scikit-learn's defaults otherwise).
    """

    name = "adaboost"

    def __init__(self, trees: int = 50, seed: int = 0) -> None:
        super().__init__(trees, seed)

    def _grow(self, values: Floats, truth: Ints) -> Trees:
        from sklearn.ensemble import AdaBoostClassifier
        from sklearn.tree import DecisionTreeClassifier

        try:
            grown = AdaBoostClassifier(n_estimators=self.trees, random_state=self.seed, **_samme()).fit(values, truth)
        except ValueError as error:
            if "worse than random" not in str(error):
                raise
            stump = DecisionTreeClassifier(max_depth=1).fit(values, truth).tree_
            return Trees.of([stump], [np.zeros(stump.node_count)])
        trees = [member.tree_ for member in grown.estimators_]
        shares = grown.estimator_weights_[: len(trees)] / grown.estimator_weights_[: len(trees)].sum()
        votes = [np.where(tree.value[:, 0, 1] > tree.value[:, 0, 0], 1.0, -1.0) for tree in trees]
        return Trees.of(trees, [2 * share * vote for share, vote in zip(shares, votes, strict=True)])


def _samme() -> dict[str, str]:
    """SAMME is the only algorithm from scikit-learn 1.6 on; before, it has to be asked for."""
    import sklearn

    major, minor = (int(part) for part in sklearn.__version__.split(".")[:2])
    return {} if (major, minor) >= (1, 6) else {"algorithm": "SAMME"}
