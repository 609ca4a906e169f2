"""By ``async def``."""

from netswap.http import Request, Response


async def app(request: Request) -> Response:
    """Answer from a task."""
    if request.method == "POST":
        return Response(b"%d" % len(await request.body.read()))
    return Response(b"Hello, world!")
