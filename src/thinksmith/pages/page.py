"""Templates that escape what they are given, and charts in the page's own colours: no script, no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"')
_FONT = re.compile(r' font-family="[^"]*"')


def templates(package: str) -> Environment:
    """The templates in the folder `templates` of a package, which may include `page.css`. Texts are escaped, and a name
    that a template does not get is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("thinksmith.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def drawn(chart: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    """A Vega-Lite chart as SVG. It is drawn in stand-in colours, each of which gives way to what `colours` has for it,
    such as `var(--line)`: a page is light or dark as its reader's system is, so a chart must carry no colours."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(dict(chart))
    for stand_in, colour in colours.items():
        svg = svg.replace(stand_in, colour)
    return svg


def fitted(svg: str) -> Markup:
    """An SVG of our own as a part of a page, which chooses its size (the viewBox keeps the shape) and its font."""
    from markupsafe import Markup

    return Markup(_FONT.sub("", _SIZE.sub(r"\1", svg, count=1)))
