from dataclasses import replace

import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.data.splits import Parts, divide
from fuserank.training.evaluation.evaluate import Report, judge
from fuserank.training.model.ranker import build_ranker


@pytest.fixture(scope="module")
def parts(dataset, make_config):
    config = make_config()
    return divide(dataset, config.split, config.seed)


@pytest.fixture(scope="module")
def ranker(schema, make_config):
    return build_ranker(schema, make_config(model="bilinear"))


@pytest.fixture(scope="module")
def report(ranker, features, schema, parts):
    return judge(ranker, features, schema, parts).report


def test_the_report_describes_the_test_part(report, parts):
    found = report.classification
    assert found.n_pairs == len(parts.test)
    assert found.base_rate == pytest.approx(parts.test.positive.mean())
    assert 0 < report.threshold < 1
    assert report.ranking.n_users == len(np.unique(parts.test.user[parts.test.positive]))
    assert report.ranking.n_users == report.popularity.n_users


def test_popularity_counts_training_likes_and_leaves_out_what_was_met(report, parts):
    """Against a loop over users with nothing shared but the definition."""
    likes = np.bincount(parts.train.item[parts.train.positive], minlength=30)
    recalls = []
    for user in np.unique(parts.test.user):
        wanted = parts.test.item[(parts.test.user == user) & parts.test.positive]
        if not len(wanted):
            continue
        met = {
            item
            for part in (parts.train, parts.validation)
            for item in part.item[part.user == user].tolist()
        }
        ranked = [
            item for item in sorted(range(30), key=lambda i: (-likes[i], i)) if item not in met
        ]
        recalls.append(len(set(ranked[:10]) & set(wanted.tolist())) / len(wanted))
    assert report.popularity.recall == pytest.approx(np.mean(recalls))


def test_a_report_survives_json(report):
    assert Report.from_json(report.to_json(), "report.json") == report


def test_data_without_dislikes_have_no_auc_and_still_make_json(ranker, features, schema, parts):
    liked = Parts(
        train=parts.train.select(parts.train.positive),
        validation=parts.validation.select(parts.validation.positive),
        test=parts.test.select(parts.test.positive),
    )
    found = judge(ranker, features, schema, liked).report
    assert found.classification.roc_auc is None
    assert found.classification.base_rate == 1
    assert Report.from_json(found.to_json(), "report.json") == found


def test_nothing_to_judge_on_is_an_error(ranker, features, schema, parts):
    disliked = replace(parts, test=parts.test.select(~parts.test.positive))
    with pytest.raises(DataError, match="no positive interaction in the held-out part"):
        judge(ranker, features, schema, disliked)


def test_a_foreign_report_is_refused():
    with pytest.raises(DataError, match=r"r\.json: expected a training report, found"):
        Report.from_json(b'{"threshold": 1}', "r.json")


def test_a_split_that_leaves_a_part_without_positives_is_refused(dataset, make_config):
    config = make_config()
    config = replace(config, split=replace(config.split, test=0.0))
    with pytest.raises(DataError, match=r"'tiny': found no positive interaction in the test part"):
        divide(dataset, config.split, config.seed)
