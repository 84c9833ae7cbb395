"""Networks of transformers as encoders; the library is imported when one is built and not before."""

from confu.nn.encoders.hub.model import TransformersEncoder

__all__ = ["TransformersEncoder"]
