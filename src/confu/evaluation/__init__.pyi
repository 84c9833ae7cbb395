from .bootstrap import bootstrap_interval
from .few_shot import FewShotResult, evaluate_few_shot
from .linear_probe import LinearProbeResult, evaluate_linear_probe, fit_linear_probe
from .mutual_information import FusedInformation, Information, InformationAccount, information
from .overlap import OverlapResult, evaluate_overlap
from .report import Report, ReportRow, Summary, summarise, versions
from .retrieval import (
    evaluate_retrieval,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
    retrieval_means,
    retrieval_ranks,
)
from .scoring import answers, pair_scores, sides, why_not
from .zero_shot import ZeroShotResult, class_scores, evaluate_zero_shot, zero_shot_predict

__all__ = [
    "FewShotResult",
    "FusedInformation",
    "Information",
    "InformationAccount",
    "LinearProbeResult",
    "OverlapResult",
    "Report",
    "ReportRow",
    "Summary",
    "ZeroShotResult",
    "answers",
    "bootstrap_interval",
    "class_scores",
    "evaluate_few_shot",
    "evaluate_linear_probe",
    "evaluate_overlap",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "fit_linear_probe",
    "information",
    "mean_reciprocal_rank",
    "median_rank",
    "pair_scores",
    "recall_at_k",
    "retrieval_means",
    "retrieval_ranks",
    "sides",
    "summarise",
    "versions",
    "why_not",
    "zero_shot_predict",
]
