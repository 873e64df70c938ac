"""HTTP/1.1 as uvicorn speaks it, but that what is no HTTP at all is refused with a problem document as well."""

from __future__ import annotations

from http import HTTPStatus

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from router.http.problems import MEDIA_TYPE, ProblemDocument


class ProblemProtocol(H11Protocol):
    """uvicorn's own, with another body in the one answer that it gives by itself."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read as a request, and close the connection: where the next would begin is not known."""
        status = HTTPStatus.BAD_REQUEST
        headers = [("content-type", MEDIA_TYPE), ("connection", "close")]
        detail = f"{msg} Its first line and headers take at most 64 KiB of ASCII."
        document = ProblemDocument("about:blank", status.phrase, status, detail)
        events = (
            h11.Response(status_code=status, headers=headers, reason=status.phrase),
            h11.Data(data=msgspec.json.encode(document)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
