"""ExpFeatures among the estimators of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import attngrad_rs as ag
from helpers import assert_same_bits

pytestmark = pytest.mark.spec


def test_features_work_in_a_pipeline() -> None:
    """Rows as their own keys: kernel ridge regression by its features, cloned and searched over."""

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 3))
    y = np.exp(x @ np.array([1.0, -0.5, 0.25]))
    pipeline = Pipeline([("features", ag.ExpFeatures(3, scale=1.0)), ("ridge", Ridge(1e-6))])
    assert clone(pipeline).get_params()["features__degree"] == 3
    search = GridSearchCV(pipeline, {"features__degree": [0, 1, 3]}, cv=3).fit(x, y)
    assert search.best_params_ == {"features__degree": 3}
    assert search.score(x, y) > 0.999
    fitted = search.best_estimator_.named_steps["features"]
    assert_same_bits(pipeline[:1].fit_transform(x), fitted.transform_query(x), "U")
    assert len(search.best_estimator_[:1].get_feature_names_out()) == fitted.n_features_
    assert repr(pipeline)
