"""What a chapter's code has written, as a reader wants it: powers of ten, indices, exponents.

Claims and reports are plain text of a program: ``9.7e-01``, ``θ_k``, ``e^{−t}``.
"""

import re

from gfgd.typography import without_e_notation

#: Between two sentences: what follows is no small letter, as it is after "i.e.".
BETWEEN_SENTENCES = re.compile(r"(?<=[.?!])\s+(?=[^\sa-z])")

# Code between backquotes, a tag or a formula, which stay; or an index of one letter, in braces, or
# min or max, after a single letter (longer names are a program's); or λmin and λmax, as a figure
# has them; or an exponent in braces; or a minus before a number; or a number whose thousands are
# set apart by commas, or one of five digits and more where they are not; or what stays on a line:
# a sign and its number, a number and its % or its power of ten, a fraction such as 2/λmax.
_MARKED = re.compile(
    r"(?P<stays>`[^`]*`|<[^>]*>|\$[^$]*\$)"
    r"|(?<!\w)(?P<letter>[^\W\d_])_(?:\{(?P<braced>[^{}]*)\}|(?P<index>min|max|\w)(?!\w))"
    r"|(?P<whole>(?<![\w.])\w{1,4} = (?=[−-]?\d)|(?<=\d) × (?=10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]))"
    r"|(?P<percent>(?<=\d) ?%(?!\w))"
    r"|(?P<over>(?<=\d)/(?=λ))"
    r"|(?<!\w)λ(?P<extreme>min|max)(?!\w)"
    r"|\^\{(?P<raised>[^{}]*)\}"
    r"|(?P<minus>(?<![\w.–-])-(?=\d))"
    r"|(?P<thousands>(?<![\w.,])(?:\d{1,3}(?:,\d{3})+(?!\w|,\d)|\d{5,7}(?!\w|[.,]\d)))"
)


def as_read(text: str) -> str:
    """Return a text, in Markdown or HTML, as a reader writes it; no line ends within a number.

    Examples
    --------
    >>> as_read("‖θ_k‖ falls like e^{−t} to 1e-05 with `step_size` and my_name")
    '‖θ<sub>k</sub>‖ falls like e<sup>−t</sup> to 10⁻⁵ with `step_size` and my_name'
    """

    def marked(found: re.Match[str]) -> str:
        parts = found.groupdict()
        if parts["stays"] is not None:
            return parts["stays"]
        if parts["minus"] is not None:
            return "−"
        if parts["thousands"] is not None:
            digits = parts["thousands"].replace(",", "")
            return re.sub(r"\B(?=(?:\d{3})+$)", "\N{NARROW NO-BREAK SPACE}", digits)
        if parts["raised"] is not None:
            return f"<sup>{parts['raised']}</sup>"
        if parts["whole"] is not None:
            return parts["whole"].replace(" ", "\N{NO-BREAK SPACE}")
        if parts["percent"] is not None:
            return "\N{NO-BREAK SPACE}%"
        if parts["over"] is not None:
            return "/\N{WORD JOINER}"
        if parts["extreme"] is not None:
            return f"λ<sub>{parts['extreme']}</sub>"
        return f"{parts['letter']}<sub>{parts['braced'] or parts['index']}</sub>"

    return _MARKED.sub(marked, without_e_notation(text))
