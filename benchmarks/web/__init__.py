"""HTTP and WebSocket, one worker on one core, beside bare uvloop and its peers.

``sites`` holds one application written in every way; ``bare`` is what uvloop and httptools do with
nothing in between; ``compare`` drives them in turn with wrk and counts processor time.
"""
