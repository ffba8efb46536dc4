r"""Any text as LaTeX that typesets it: ASCII that compiles under OT1 and T1 without packages."""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\^{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    # The usual font has other characters in the places of these.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\`{}",
    # Arguments of \\ where a line begins with them.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
_MATH = {
    "±": r"\pm",
    "×": r"\times",
    "÷": r"\div",
    "−": "-",
    "≈": r"\approx",
    "≠": r"\neq",
    "≤": r"\leq",
    "≥": r"\geq",
    "∞": r"\infty",
    "∑": r"\sum",
    "∏": r"\prod",
    "√": r"\surd",
    "∂": r"\partial",
    "∈": r"\in",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "°": r"^\circ",
    "¬": r"\neg",
    "·": r"\cdot",
    "∥": r"\parallel",
    "ℓ": r"\ell",
    "ς": r"\varsigma",
    "ϵ": r"\epsilon",
    "ϕ": r"\phi",
    "Ω": r"\Omega",
    "µ": r"\mu",
}
_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi o pi rho sigma tau"
    " upsilon varphi chi psi omega"
)
_CAPITALS = {"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi",
             "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi"}  # fmt: skip
_LETTERS = {
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "•": r"$\bullet$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"$\mathsection$",
    "¶": r"$\mathparagraph$",
    "©": r"\copyright{}",
    "£": r"$\mathsterling$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "¡": "!`",
    "¿": "?`",
    "\u00a0": "~",
    "\u2009": r"\,",
    "\u202f": r"\,",
    "\u00ad": r"\-",
}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d",
    "\u0327": "c", "\u0331": "b",
}  # fmt: skip
_KNOWN = {
    **_SPECIAL,
    **_LETTERS,
    **{char: f"${name}$" for char, name in _MATH.items()},
    **{char: f"$\\{name}$" for char, name in _CAPITALS.items()},
    **{
        # From alpha on, without the final sigma; omicron is a plain o.
        char: f"$\\{name}$" if name != "o" else "o"
        for char, name in zip("αβγδεζηθικλμνξοπρστυφχψω", _GREEK.split(), strict=True)
    },
}


def escape(content: str) -> str:
    """Text in one line as LaTeX; a character that nothing is known of as its number, ``U+4E2D``."""
    line = unicodedata.normalize("NFC", " ".join(content.split()))
    parts: list[str] = []
    for char in line:
        part = _character(char)
        # Two that would melt into one: dashes, quotation marks, inverted ! and ?.
        if parts and (parts[-1][-1] + part[0]) in {"--", "``", "''", "!`", "?`", ",,"}:
            parts.append("{}")
        parts.append(part)
    return "".join(parts)


def url(content: str) -> str:
    """Escaped text whose addresses may break at each slash."""
    return re.sub(
        r"(?<=https://)\S+|(?<=http://)\S+",
        lambda m: m[0].replace("/", r"/\allowbreak "),
        escape(content),
    )


def _character(char: str) -> str:
    if char in _KNOWN:
        return _KNOWN[char]
    if " " <= char <= "~":
        return char
    base, *accents = unicodedata.normalize("NFD", char)
    if len(accents) == 1 and accents[0] in _ACCENTS and base.isascii() and base.isalpha():
        base = f"\\{base}" if base in "ij" else base
        return f"\\{_ACCENTS[accents[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(char):04X}}}"
