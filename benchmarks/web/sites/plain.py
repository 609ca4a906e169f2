"""By ``def``: no task is made."""

from netswap.http import Request, Response


def app(request: Request) -> Response:
    """Answer at once."""
    if request.method == "POST":
        return Response(b"%d" % request.body.size)
    return Response(b"Hello, world!")
