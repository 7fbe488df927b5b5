"""Errors that more than one chapter plants, and the question whether a check notices."""

import math

from remi.losses import Scores, estimators

LOG_MEAN_EXP, NWJ = Scores.log_mean_exp, estimators.nwj


def notices(check, place, name, error, monkeypatch):
    """Whether a comparison of the corrected statement fails once the error stands in its place."""
    (monkeypatch.setitem if isinstance(place, dict) else monkeypatch.setattr)(place, name, error)
    return any(not c.holds for c in check() if not c.printed)


def without_count(scores):
    """Log sum exp for log mean exp."""
    return LOG_MEAN_EXP(scores) + math.log(scores.marginal.shape[-1])


def nwj_released(scores, *, target_of="released"):
    return NWJ(scores, target_of="released")


def nwj_unshifted(scores, *, target_of="eq15"):
    return NWJ(scores.map(lambda t: t + 1), target_of=target_of)


def second_term(change):
    """MINE with another second term."""

    def planted(scores):
        joint, marginal = scores.joint_mean(), change(scores)
        return estimators.Reading(joint - marginal, joint - marginal, joint, marginal, marginal)

    return planted


without_logarithm = second_term(lambda scores: scores.log_mean_exp().exp())  # of MINE; without its shift, of NWJ
rows_pooled = second_term(lambda scores: scores.log_mean_exp())  # of InfoNCE
