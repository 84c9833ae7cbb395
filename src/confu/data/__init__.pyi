from .columns import CaptionColumn, Column, SequenceColumn, TensorColumn
from .dataset import ArrayDataset, Dataset, Splits, row_contents
from .readers.text import Tokenizer, WordVocabulary

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
    "row_contents",
]
