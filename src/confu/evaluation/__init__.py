"""Measure stored embedding tables and report what was found; nothing here needs a model or a GPU."""

from confu.evaluation.report import Report, ReportRow, Summary, summarise, versions
from confu.evaluation.retrieval import evaluate_retrieval, median_rank, recall_at_k, retrieval_ranks
from confu.evaluation.zero_shot import ZeroShotResult, evaluate_zero_shot, zero_shot_predict

__all__ = [
    "Report",
    "ReportRow",
    "Summary",
    "ZeroShotResult",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "median_rank",
    "recall_at_k",
    "retrieval_ranks",
    "summarise",
    "versions",
    "zero_shot_predict",
]
