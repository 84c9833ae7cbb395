"""Data sets: columns by modality name, read by the batch."""

from confu.data.columns import CaptionColumn, Column, SequenceColumn, TensorColumn
from confu.data.dataset import ArrayDataset, Dataset, Splits
from confu.data.text import Tokenizer, WordVocabulary

__all__ = [
    "ArrayDataset",
    "CaptionColumn",
    "Column",
    "Dataset",
    "SequenceColumn",
    "Splits",
    "TensorColumn",
    "Tokenizer",
    "WordVocabulary",
]
