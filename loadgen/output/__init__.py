"""The ways in which a run is shown. There is no common door: the command imports each by its name.

- ``result``     as JSON, with its schema; ``comparison`` sets two such results side by side
- ``summary``    as text for a person; ``sparkline`` draws times in a row of blocks, here and live
- ``live``       on the terminal, while it goes on
- ``page``       as one HTML file for a browser
- ``picture``    the time lines of several results as an SVG
- ``markup``     makes the elements of the page and the picture
"""
