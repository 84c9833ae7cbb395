from .audio import MelReader, WaveformReader
from .image import ImageReader
from .mfcc import MfccReader
from .numbers import NumberReader, SequenceReader, VectorReader, number_reader
from .reader import READERS, Reader, build_reader
from .source import Source
from .table import TableReader, table_settings
from .text import TokensReader, WordsReader, tokens_reader, train_tokens_reader, words_reader_from_texts
from .video import VideoReader

__all__ = [
    "READERS",
    "ImageReader",
    "MelReader",
    "MfccReader",
    "NumberReader",
    "Reader",
    "SequenceReader",
    "Source",
    "TableReader",
    "TokensReader",
    "VectorReader",
    "VideoReader",
    "WaveformReader",
    "WordsReader",
    "build_reader",
    "number_reader",
    "table_settings",
    "tokens_reader",
    "train_tokens_reader",
    "words_reader_from_texts",
]
