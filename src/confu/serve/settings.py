"""What a server allows, and where it listens."""

import os
from ipaddress import ip_address

from pydantic import BaseModel, ConfigDict, Field, SecretStr

KEY_VARIABLE = "CONFU_API_KEY"


class ServeSettings(BaseModel):
    """Settings of `confu serve`. Nothing listens beyond this machine unless `host` says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 is every network")
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes any that is free")
    api_key: SecretStr | None = Field(
        default_factory=lambda: SecretStr(os.environ[KEY_VARIABLE]) if os.environ.get(KEY_VARIABLE) else None,
        description=f"asked of every client; also from the environment, {KEY_VARIABLE}",
    )
    max_upload_mb: float = Field(default=32, gt=0, description="most of one file")
    max_request_mb: float = Field(default=64, gt=0, description="most of one request")
    max_memory_mb: float = Field(default=512, gt=0, description="most of all requests that are being read")
    max_pixels: int = Field(default=40_000_000, ge=1, description="most of a picture")
    max_seconds_audio: float = Field(default=120, gt=0, description="longest sound")
    max_seconds_video: float = Field(default=120, gt=0, description="longest video")
    max_text: int = Field(default=10_000, ge=1, description="most characters of a text")
    max_numbers: int = Field(default=1_000_000, ge=1, description="most numbers of a sequence")
    max_k: int = Field(default=200, ge=1, le=1000, description="most hits of an answer")
    max_batch: int = Field(default=32, ge=1, description="most requests that are embedded together")
    max_wait_ms: float = Field(default=4, ge=0, description="longest wait for others, while some are being read")
    queue: int = Field(default=256, ge=1, description="requests at once; further ones are told to come again")
    timeout_s: float = Field(default=30, gt=0, description="longest time for a request, its upload apart")
    stop_s: float = Field(default=20, ge=0, description="time that running requests get when the server is stopped")
    temperature: float | None = Field(
        default=None, gt=0, description="of the model's loss, for probabilities of labels; null: that of its log"
    )
    threads: int = Field(default=0, ge=0, description="of the model; 0 leaves it to torch")
    readers: int = Field(default=2, ge=1, description="threads that decode uploads")
    hosts: tuple[str, ...] = Field(
        default=(), description="names under which it may be asked too, such as that of a proxy; * is any"
    )
    cors: tuple[str, ...] = Field(default=(), description="other origins whose pages may ask, e.g. https://example.org")
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which a proxy publishes the server and which it takes off, e.g. /birds",
    )
    page: bool = Field(default=True, description="whether / is the page")

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """Names under which the server may be asked; None for any.

        Without a key a page of another host could else read what only this machine shall: its name may lead here.
        """
        if "*" in self.hosts or self.api_key is not None or not self.is_local:
            return None
        return frozenset({*self.hosts, self.host, "localhost", "127.0.0.1", "[::1]"})

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
