"""Search over HTTP, and the page that shows it. Needs `pip install "contrastive-fusion[serve]"`."""

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError('serving needs more packages: pip install "contrastive-fusion[serve]"') from error

from confu.serve.app import create_app, run, server_of
from confu.serve.settings import ServeSettings

__all__ = ["ServeSettings", "create_app", "run", "server_of"]
