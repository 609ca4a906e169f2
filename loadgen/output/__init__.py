"""A run for whoever wants to see it; each module is one way, and gives no other a hand but its own.

- ``result``     as JSON, with its schema; ``comparison`` sets two side by side
- ``summary``    as text for a person; ``sparkline`` draws an event in it
- ``live``       while it goes on
- ``page``       as one file for a browser
- ``picture``    the time lines of several runs as an SVG; elements are made by ``markup``
"""
